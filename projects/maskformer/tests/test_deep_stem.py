"""The ResNet with three small convolutions in its stem."""

import torch

from d2ext.config import load_config
from d2ext.projects.maskformer.tests.conftest import CONFIG
from detectron2.modeling import build_backbone

OPTIONS = [
    *("MODEL.BACKBONE.NAME", "build_deep_stem_resnet_backbone"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "128"),
    *("MODEL.RESNETS.OUT_FEATURES", "['res2']"),
]


def test_the_stem_has_detectron2s_names_and_stride_four():
    backbone = build_backbone(load_config(CONFIG, [*OPTIONS, "MODEL.BACKBONE.FREEZE_AT", "1"]))
    shapes = {
        name: tuple(value.shape)
        for name, value in backbone.stem.named_parameters()
        if name.endswith("weight")
    }
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["conv3.weight"] == (128, 64, 3, 3)
    assert backbone(torch.zeros(1, 3, 64, 32))["res2"].shape == (1, 256, 16, 8)
    assert not any(parameter.requires_grad for parameter in backbone.stem.parameters())
    assert all(parameter.requires_grad for parameter in backbone.res2[0].conv1.parameters())
