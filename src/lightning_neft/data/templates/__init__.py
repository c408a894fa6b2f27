"""Prompt templates: one file a family, one object for training and for generation."""
