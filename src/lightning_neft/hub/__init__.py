"""Base models by name: their files, configs, tokenizers and sizes."""
