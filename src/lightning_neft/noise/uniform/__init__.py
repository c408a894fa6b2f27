"""Uniform noise: numpy on a CPU, a Triton kernel on a GPU, and the same numbers in plain PyTorch."""
