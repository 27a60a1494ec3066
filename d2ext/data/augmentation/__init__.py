"""Data augmentation: transforms that move an image and all its annotations together."""
