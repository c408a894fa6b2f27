"""Checkpoints and model folders: written whole, read safely, exported."""
