"""What every part of the package needs, once: the paths that a user names, and files that are written whole."""
