"""Room for projects as `detectron2.projects.<name>`; none is shipped."""
