"""The kinds of plots: curves over steps, histograms, values with intervals; each with a table and a sentence."""
