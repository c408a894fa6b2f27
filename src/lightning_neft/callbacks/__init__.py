"""Callbacks for a Trainer: this program's, each usable in a project of your own."""
