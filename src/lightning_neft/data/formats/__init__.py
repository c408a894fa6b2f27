"""What the columns of a source mean: one small file for each family of formats."""
