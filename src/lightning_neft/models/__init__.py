"""LightningModules for the models that are fine-tuned, the base they share, and the tiny model of the quick start."""
