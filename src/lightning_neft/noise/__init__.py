"""The method itself, on torch alone: usable from Lightning, Fabric or a plain PyTorch loop."""
