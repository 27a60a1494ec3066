"""Training: Detectron2's trainer with more options, its hooks and its processes."""
