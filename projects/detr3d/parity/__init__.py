"""Proof that DETR3D, its data and its metric give the numbers of their authors' code."""

from d2ext.projects.detr3d.parity import model, nuscenes  # noqa: F401  (register)
