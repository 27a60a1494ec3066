"""Building of models as d2ext runs them: Detectron2's, with faster layers that compute the same."""

from torch import nn

from d2ext.modeling.folded_conv import fold_frozen_norms
from d2ext.modeling.poolers import replace_pooling_layers
from d2ext.modeling.winograd_conv import use_winograd
from detectron2 import modeling
from detectron2.config import CfgNode


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config, on its device.

    On a CPU regions are pooled by `d2ext.layers.ROIAlign`, frozen norms are folded into their
    convolutions, and these use Winograd's algorithm. Names of parameters and buffers are
    Detectron2's.
    """
    model = modeling.build_model(cfg)
    if cfg.MODEL.DEVICE == "cpu":  # on CUDA PyTorch's own kernels have been measured for years
        use_winograd(fold_frozen_norms(replace_pooling_layers(model)))
    return model
