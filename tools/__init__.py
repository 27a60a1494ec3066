"""Scripts of a checkout; the package keeps others of this name, as Detectron2 installs, away."""
