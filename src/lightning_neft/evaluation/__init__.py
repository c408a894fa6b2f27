"""Whether the noise helped: text statistics, memorisation, losses without noise, win rates; and what a result is."""
