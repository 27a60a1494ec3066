"""Proof that MaskFormer and Mask2Former give their authors' numbers, on the reference cases."""

from d2ext.projects.maskformer.parity import models  # noqa: F401  (register)
