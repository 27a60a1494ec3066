"""The layouts of published checkpoints, a file each; another one is another file and line here."""

from d2ext.checkpoint.layouts.adelaidet_fcos import ADELAIDET_FCOS
from d2ext.checkpoint.layouts.caffe2_resnet import CAFFE2_RESNET
from d2ext.checkpoint.layouts.detectron2 import DETECTRON2, DETECTRON2_RESNET
from d2ext.checkpoint.layouts.dynamic_head import DYNAMIC_HEAD
from d2ext.checkpoint.layouts.layout import Layout, Weights
from d2ext.checkpoint.layouts.swin import SWIN
from d2ext.checkpoint.layouts.timm_swin import TIMM_SWIN
from d2ext.checkpoint.layouts.torchvision_resnet import TORCHVISION_RESNET
from d2ext.checkpoint.layouts.torchvision_swin import TORCHVISION_SWIN
from d2ext.checkpoint.layouts.yolo_fastest import YOLO_FASTEST, YOLO_FASTEST_BACKBONE

__all__ = ["LAYOUTS", "Layout", "Weights"]

# Tried in this order: those of other code bases have Detectron2's names too, beside their own.
LAYOUTS = (
    DYNAMIC_HEAD,
    YOLO_FASTEST,
    YOLO_FASTEST_BACKBONE,
    ADELAIDET_FCOS,
    SWIN,
    TIMM_SWIN,
    TORCHVISION_SWIN,
    TORCHVISION_RESNET,
    CAFFE2_RESNET,
    DETECTRON2,
    DETECTRON2_RESNET,
)
