"""Shared by all rooms: paths that a user gives, atomic files, YAML, near names, secrets, escaping, ranks."""
