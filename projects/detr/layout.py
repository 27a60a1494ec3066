"""Registration of the family's checkpoint layouts."""

from d2ext.checkpoint.layouts import register_layout
from d2ext.projects.detr import deformable_layouts, single_scale_layouts

for _layout in (*single_scale_layouts.ALL, *deformable_layouts.ALL):
    register_layout(_layout)
