"""Training: the trainer, its hooks, and the preparation and launch of runs."""
