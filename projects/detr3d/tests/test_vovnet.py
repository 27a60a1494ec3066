"""VoVNet-99: shapes, freezing, and the names of the authors' checkpoints."""

import re

import pytest
import torch

from d2ext.checkpoint import convert_official
from d2ext.config import load_config
from d2ext.projects.detr3d.layout import DETR3D_VOVNET
from d2ext.projects.detr3d.modeling import VoVNet
from detectron2.modeling import build_model

OPTIONS = {"in_channels": 3, "norm": "BN", "out_features": ["stage2", "stage5"]}
CONFIG = "projects/detr3d/configs/detr3d_vovnet_gridmask_det_final_trainval_cbgs.yaml"


def authors_name(name):
    """The authors' name of a parameter of VoVNet."""
    if found := re.fullmatch(r"stem\.(\d)\.(.*)", name):
        part = "norm" if found[2].startswith("norm") else "conv"
        return f"stem.stem_{int(found[1]) + 1}/{part}.{found[2].removeprefix('norm.')}"
    stage, block, rest = re.fullmatch(r"stage(\d)\.(\d+)\.(.*)", name).groups()
    osa = f"OSA{stage}_{int(block) + 1}"
    if rest.startswith("excite"):
        return f"stage{stage}.{osa}.ese.fc.{rest.removeprefix('excite.')}"
    part, tail = re.fullmatch(r"(layers\.\d|concat)\.(.*)", rest).groups()
    kind = "norm" if tail.startswith("norm") else "conv"
    place = f"{osa}_{part.removeprefix('layers.')}/{kind}.{tail.removeprefix('norm.')}"
    return f"stage{stage}.{osa}.{part}.{place}"


def test_maps_have_the_widths_and_strides_of_the_paper():
    model = VoVNet(stage_blocks=[1, 1, 1, 1], freeze_at=0, **OPTIONS).eval()
    with torch.no_grad():
        found = model(torch.rand(1, 3, 64, 96))
    assert found["stage2"].shape == (1, 256, 16, 24)
    assert found["stage5"].shape == (1, 1024, 2, 3)
    shapes = model.output_shape()
    assert {name: shapes[name].stride for name in shapes} == {"stage2": 4, "stage5": 32}


def test_frozen_stages_have_no_gradients():
    model = VoVNet(stage_blocks=[1, 1, 1, 1], freeze_at=2, **OPTIONS)
    assert not any(p.requires_grad for p in model.stem.parameters())
    assert not any(p.requires_grad for p in model.stage2.parameters())
    assert all(p.requires_grad for p in model.stage3.parameters())


@pytest.mark.slow
def test_every_weight_of_the_whole_model_is_found_under_the_authors_name():
    model = build_model(load_config(CONFIG, ["MODEL.DEVICE", "cpu"]))
    own = model.backbone.bottom_up.state_dict()
    theirs = {f"img_backbone.{authors_name(name)}": value for name, value in own.items()}
    for level in range(4):
        for kind in ("lateral", "fpn"):
            theirs[f"img_neck.{kind}_convs.{level}.conv.weight"] = torch.zeros(1)
    assert DETR3D_VOVNET.recognise(theirs)
    converted = convert_official(theirs)
    assert set(converted) <= set(model.state_dict())
    assert {f"backbone.bottom_up.{name}" for name in own} <= set(converted)
    assert "backbone.fpn_lateral2.weight" in converted
