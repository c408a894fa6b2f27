"""Where noise is applied on a model and how strong it is there: no training, and of large models few weights."""
