"""Inference on images, videos and cameras with a trained model."""
