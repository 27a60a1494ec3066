"""Layouts of published checkpoints, one code base per file; importing this registers them."""

from d2ext.checkpoint.layouts.adelaidet_fcos import ADELAIDET_FCOS
from d2ext.checkpoint.layouts.caffe2_detectron import (
    CAFFE2_DETECTRON,
    CAFFE2_DETECTRON_FPN,
    CAFFE2_RETINANET,
)
from d2ext.checkpoint.layouts.caffe2_resnet import CAFFE2_RESNET
from d2ext.checkpoint.layouts.detectron2 import DETECTRON2, DETECTRON2_RESNET
from d2ext.checkpoint.layouts.dynamic_head import DYNAMIC_HEAD
from d2ext.checkpoint.layouts.efficientnet_lite import EFFICIENTNET_LITE0, EFFICIENTNET_LITE1
from d2ext.checkpoint.layouts.layout import Layout, Weights, register_layout, registered_layouts
from d2ext.checkpoint.layouts.maskrcnn_benchmark import (
    MASKRCNN_BENCHMARK,
    MASKRCNN_BENCHMARK_FPN,
    MASKRCNN_BENCHMARK_RETINANET,
)
from d2ext.checkpoint.layouts.swin import SWIN
from d2ext.checkpoint.layouts.timm_swin import TIMM_SWIN
from d2ext.checkpoint.layouts.torchvision_dense import (
    TORCHVISION_FCOS,
    TORCHVISION_RETINANET,
    TORCHVISION_RETINANET_V2,
)
from d2ext.checkpoint.layouts.torchvision_rcnn import TORCHVISION_RCNN, TORCHVISION_RCNN_V2
from d2ext.checkpoint.layouts.torchvision_resnet import TORCHVISION_RESNET
from d2ext.checkpoint.layouts.torchvision_swin import TORCHVISION_SWIN

__all__ = ["Layout", "Weights", "register_layout", "registered_layouts"]

# The last one is tried first. Detectron2's come first here: other code bases are built on it and
# have its names beside their own.
for _layout in (
    DETECTRON2_RESNET,
    DETECTRON2,
    CAFFE2_RESNET,
    CAFFE2_DETECTRON,
    CAFFE2_DETECTRON_FPN,
    CAFFE2_RETINANET,
    TORCHVISION_RESNET,
    TORCHVISION_SWIN,
    TORCHVISION_RCNN,
    TORCHVISION_RCNN_V2,
    TORCHVISION_RETINANET,
    TORCHVISION_RETINANET_V2,
    TORCHVISION_FCOS,
    MASKRCNN_BENCHMARK,
    MASKRCNN_BENCHMARK_FPN,
    MASKRCNN_BENCHMARK_RETINANET,
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
    TIMM_SWIN,
    SWIN,
    ADELAIDET_FCOS,
    DYNAMIC_HEAD,
):
    register_layout(_layout)
