"""VoVNet-99: the numbers of its authors' code, shapes, freezing, and their checkpoints' names."""

import re

import pytest
import torch

from d2ext.checkpoint import convert_official
from d2ext.config import load_config
from d2ext.parity import recipe
from d2ext.projects.detr3d.layout import DETR3D_VOVNET
from d2ext.projects.detr3d.modeling import VoVNet
from detectron2.modeling import build_model

OPTIONS = {"in_channels": 3, "norm": "BN", "norm_eval": True, "out_features": ["stage2", "stage5"]}
CONFIG = "projects/detr3d/configs/detr3d_vovnet_gridmask_det_final_trainval_cbgs.yaml"


# What the authors' code (youngwanLEE/vovnet-detectron2) gives with the recipe's weights
# for its image 990 of 65x98 pixels: per stage mean, standard deviation and two values.
STAGES = {
    "stage2": (0.03906405669, 0.05911201665, 0.11662610620, 0.0),
    "stage3": (0.08148388679, 0.07037489993, 0.0, 0.00126548810),
    "stage4": (0.30165137626, 0.15366709935, 0.26320734620, 0.14264248312),
    "stage5": (0.10641462218, 0.09826222549, 0.0, 0.09745661169),
}
# Norms of gradients of all stages, each weighted by a ramp from -1 to 1.
GRADIENTS = {
    "stem.0.weight": 375.30682535,
    "stage3.1.excite.bias": 20.29014458,
    "stage4.4.layers.3.norm.weight": 3.73312357,
    "stage5.2.concat.weight": 176.35994918,
}


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


@pytest.fixture(scope="module")
def whole():
    """VoVNet-99 with the weights that the recipe gives to the authors' names."""
    names = ["stage2", "stage3", "stage4", "stage5"]
    options = OPTIONS | {"out_features": names, "stage_blocks": [1, 3, 9, 3], "freeze_at": 0}
    model = VoVNet(**options).eval()
    values = {
        name: torch.from_numpy(recipe.fill(f"img_backbone.{authors_name(name)}", value.shape))
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model.load_state_dict(values, strict=False)
    return model


@pytest.mark.slow
def test_features_and_gradients_are_those_of_the_authors_code(whole):
    image = torch.from_numpy(recipe.image(990, 65, 98)).permute(2, 0, 1)[None].float()
    mean, std = ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395])
    found = whole((image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    for name, expected in STAGES.items():
        own = found[name].double()
        digest = own.mean(), own.std(), own[0, 7, 1, 1], own[0, -1, -1, -1]
        assert [each.item() for each in digest] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    ramps = [torch.linspace(-1, 1, each.numel()).view(each.shape) for each in found.values()]
    sum((each * ramp).sum() for each, ramp in zip(found.values(), ramps, strict=True)).backward()
    norms = {name: whole.get_parameter(name).grad.norm().item() for name in GRADIENTS}
    assert norms == pytest.approx(GRADIENTS, rel=1e-4)


def test_batch_norm_keeps_its_statistics_but_trains_scales_and_biases():
    model = VoVNet(stage_blocks=[1, 1, 1, 1], freeze_at=1, **OPTIONS).train()
    norm = model.stage3[0].concat.norm
    before = norm.running_mean.clone()
    sum(each.sum() for each in model(torch.rand(2, 3, 64, 64)).values()).backward()
    assert torch.equal(norm.running_mean, before)
    assert norm.weight.grad.abs().sum() > 0


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
    own = {name: value for name, value in own.items() if not name.endswith("num_batches_tracked")}
    theirs = {f"img_backbone.{authors_name(name)}": value for name, value in own.items()}
    for level in range(4):
        for kind in ("lateral", "fpn"):
            theirs[f"img_neck.{kind}_convs.{level}.conv.weight"] = torch.zeros(1)
    assert DETR3D_VOVNET.recognise(theirs)
    converted = convert_official(theirs)
    assert set(converted) <= set(model.state_dict())
    assert {f"backbone.bottom_up.{name}" for name in own} <= set(converted)
    assert "backbone.fpn_lateral2.weight" in converted
