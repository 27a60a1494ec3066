"""Checks of data sets: what is wrong with images and annotations, by the codes of `kinds`."""
