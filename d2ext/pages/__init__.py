"""HTML pages about data sets and runs: one file each, readable without a network."""
