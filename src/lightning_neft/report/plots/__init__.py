"""The kinds of plots: curves over steps, histograms, values with intervals. Each draws itself and tells its data."""
