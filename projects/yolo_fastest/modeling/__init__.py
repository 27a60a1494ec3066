"""YOLO-FastestV2; importing this registers backbone, neck, head and detector."""

from d2ext.projects.yolo_fastest.modeling.decoding import Decoded, RawLevel, decode, detect
from d2ext.projects.yolo_fastest.modeling.detector import YoloFastest
from d2ext.projects.yolo_fastest.modeling.head import YoloFastestHead
from d2ext.projects.yolo_fastest.modeling.neck import LightNeck
from d2ext.projects.yolo_fastest.modeling.shufflenet import ShuffleNetV2

__all__ = [
    "Decoded",
    "LightNeck",
    "RawLevel",
    "ShuffleNetV2",
    "YoloFastest",
    "YoloFastestHead",
    "decode",
    "detect",
]
