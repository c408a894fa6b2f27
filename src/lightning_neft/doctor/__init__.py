"""Where noise would land on a model and how strong it would be there, without training and without all its weights."""
