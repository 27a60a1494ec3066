"""The layout of ResNets with Caffe2's names: MSRA's and FAIR's .pkl files in Detectron2's zoo.

Source: https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md
"""

import torch
from torch import Tensor

from d2ext.checkpoint.layouts.layout import Layout, Weights, has
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names

_EPSILON = 1e-5  # eps of Detectron2's batch norms


def rename_blob(name: str) -> str:
    """Return Detectron2's name of a backbone's blob, without a prefix."""
    return convert_basic_c2_names([name])[0]


def neutral_statistics(weights: Weights) -> dict[str, Tensor]:
    """Compute running statistics that change nothing, for norms merged to scale and bias."""
    # They cannot be left as they are: the model may hold others when weights are loaded.
    computed = {}
    for name, scale in weights.items():
        if name.endswith("_bn_s") and f"{name[:-1]}rm" not in weights:
            norm = rename_blob(name).removesuffix("weight")
            computed[f"{norm}running_mean"] = torch.zeros_like(scale)
            computed[f"{norm}running_var"] = torch.ones_like(scale) - _EPSILON
    return computed


CAFFE2_RESNET = Layout(
    name="Caffe2 ResNet",
    recognise=lambda weights: has(weights, "conv1_w", "res2_0_branch2a_w"),
    renamings=((r"^.*$", lambda found: rename_blob(found[0])),),
    unused=(r".*_momentum", r"lr", r"conv1_b", r"(fc1000|pred)_[wb]"),
    bare=True,
    computed=neutral_statistics,
    expects="INPUT.FORMAT BGR",
)
