"""What several rooms need, each once: paths that a user names, files that are written whole, logging steps."""
