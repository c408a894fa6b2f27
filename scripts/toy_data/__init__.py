"""The generator of the toy data: a small world, the tasks about it, and its prose."""
