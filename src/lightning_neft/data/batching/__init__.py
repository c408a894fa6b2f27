"""From lengths to batches: which samples go together, in which order, and the tensors that they become."""
