"""RetinaNet."""

from detectron2.config import LazyCall
from detectron2.modeling import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead

from ..data.constants import constants  # noqa: F401  (part of the config)
from .dense import head, pyramid, shared
from .parts import anchors, box_transform, matcher, pixels

_octaves = [[size * 2 ** (k / 3) for k in range(3)] for size in (32, 64, 128, 256, 512)]

model = LazyCall(RetinaNet)(
    backbone=pyramid(in_channels=2048),
    head=head(RetinaNetHead, num_anchors=9),
    anchor_generator=anchors(_octaves, [8, 16, 32, 64, 128]),
    box2box_transform=box_transform(1.0, 1.0, 1.0, 1.0),
    anchor_matcher=matcher([0.4, 0.5], [0, -1, 1], True),
    **shared(**pixels()),
)
