"""Recipes: their cards, configs, estimates and stand-in data."""
