"""FCOS; P6 and P7 are computed from P5, as in arXiv:2006.09214, section 2.2."""

from detectron2.config import LazyCall
from detectron2.modeling import FCOS
from detectron2.modeling.meta_arch.fcos import FCOSHead

from .dense import head, pyramid, shared
from .parts import pixels

model = LazyCall(FCOS)(
    backbone=pyramid(in_channels=256, in_feature="p5"),
    head=head(FCOSHead, norm="GN"),
    # Of the geometric mean of class probability and centre-ness.
    test_score_thresh=0.2,
    test_nms_thresh=0.6,
    **shared(**pixels()),
)
del model.input_format
