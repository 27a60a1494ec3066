"""Projects of Detectron2 that packages import, as `detectron2.projects.<name>`."""
