"""Recipes: where they are found."""
