"""Published ResNets in Detectron2's: the same features as the original's."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from d2ext.checkpoint import Checkpointer
from d2ext.checkpoint.conversion import convert
from d2ext.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
# What Caffe2 calls the parts of a block, and an ImageNet file's scale and bias of batch norms.
PARTS = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
NORM = {"norm.weight": "bn_s", "norm.bias": "bn_b", "weight": "w"}


def ours(depth: int, norm: str = "FrozenBN", width: int = 64) -> nn.Module:
    cfg = get_cfg()
    resnet = cfg.MODEL.RESNETS
    resnet.DEPTH, resnet.NORM, resnet.STRIDE_IN_1X1 = depth, norm, False
    resnet.OUT_FEATURES = ["res2", "res5"]
    resnet.WIDTH_PER_GROUP = resnet.STEM_OUT_CHANNELS = width
    resnet.RES2_OUT_CHANNELS = width if depth < 50 else 4 * width
    net = nn.ModuleDict({"backbone": build_resnet_backbone(cfg, ShapeSpec(channels=3))})
    return made_up(net).eval()


def made_up(net: nn.Module) -> nn.Module:
    """Give every tensor values of its own, and those of norms none that hides a confusion."""
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if value.dtype == torch.float32:
            noise = torch.randn(value.shape, generator=generator)
            spread = value.std() if value.ndim > 1 else torch.tensor(0.1)
            value.copy_(noise.abs() + 0.5 if name.endswith("var") else noise * spread)
    return net


def caffe2(name: str) -> str:
    """Caffe2's name of a tensor of Detectron2's."""
    if name.startswith("stem.conv1"):
        stem, kind = ("conv1", "w") if "norm" not in name else ("res_conv1", NORM[name[11:]])
        return f"{stem}_{kind}"
    stage, block, part, kind = name.split(".", 3)
    return f"{stage}_{block}_{PARTS[part]}_{NORM[kind]}"


@pytest.mark.parametrize(("package", "depth"), [("timm", 18), ("torchvision", 50)])
def test_features_are_the_originals(package: str, depth: int) -> None:
    create = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}[package]
    origin = made_up(create(f"resnet{depth}")).eval()
    model = ours(depth)
    found = convert(origin.state_dict(), model.state_dict())
    match = found.match(model.state_dict())
    assert match.layout == "torchvision and timm ResNet"
    assert match.complete
    assert not match.unexpected
    assert all(name.startswith("fc.") or "num_batches" in name for name in match.unused)
    model.load_state_dict(found.weights)
    with torch.no_grad():
        first = origin.layer1(origin.maxpool(origin.bn1(origin.conv1(IMAGES)).relu()))
        last = origin.layer4(origin.layer3(origin.layer2(first)))
        features = model["backbone"](IMAGES)
    torch.testing.assert_close(features["res2"], first, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features["res5"], last, rtol=1e-4, atol=1e-4)


def test_a_variant_with_another_block_is_no_resnet() -> None:
    weights = timm.create_model("seresnet50").state_dict()
    assert not convert(weights).known


@pytest.fixture
def pickled(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A file as MSRA's R-50.pkl, and its tensors by Detectron2's names."""
    state = ours(50, width=4)["backbone"].state_dict()
    kept = {name: value for name, value in state.items() if "running" not in name}
    arrays = {caffe2(name): value.numpy() for name, value in kept.items()}
    extra = {"conv1_b": np.zeros(4, "f"), "fc1000_w": np.zeros((9, 9), "f"), "lr": np.float32(1)}
    momenta = {f"{name}_momentum": value for name, value in arrays.items()}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": arrays | extra | momenta}, protocol=2))
    return path, kept


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_caffe2_files_are_read(
    pickled: tuple[Path, dict[str, Tensor]], norm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, expected = pickled
    model = ours(50, norm, width=4)
    with caplog.at_level("INFO"):
        Checkpointer(model).load(str(path), strict=True)
    state = model["backbone"].state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert "layout Caffe2 ResNet: 265 tensors matched" in caplog.text
    assert "162 unused, not needed" in caplog.text
    assert "left fresh" not in caplog.text


def test_merged_batch_norms_get_neutral_statistics(
    pickled: tuple[Path, dict[str, Tensor]],
) -> None:
    path, expected = pickled
    model = ours(50, width=4)
    Checkpointer(model).load(str(path))
    stem = model["backbone"].stem.conv1
    x = torch.randn(1, 4, 4, 4)
    scale, bias = expected["stem.conv1.norm.weight"], expected["stem.conv1.norm.bias"]
    wanted = x * scale[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(stem.norm(x), wanted)


def test_group_norms_of_caffe2_have_no_statistics() -> None:
    weights = {"conv1_w": torch.zeros(1), "res2_0_branch2a_w": torch.zeros(1)}
    weights |= {"conv1_gn_s": torch.ones(2), "conv1_gn_b": torch.ones(2)}
    names = ["stem.conv1.weight", "res2.0.conv1.weight"]
    names += ["stem.conv1.norm.weight", "stem.conv1.norm.bias"]
    assert list(convert(weights).weights) == names


def test_detectron2s_converted_resnets_are_placed(tmp_path: Path) -> None:
    model = ours(50, width=4)
    arrays = {n: v.numpy() for n, v in ours(50, width=4)["backbone"].state_dict().items()}
    content = {"model": arrays | {"fc.bias": np.zeros(9, "f")}, "__author__": "torchvision"}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({**content, "matching_heuristics": True}))
    Checkpointer(model).load(str(path), strict=True)
    state = model["backbone"].state_dict()
    assert all(np.array_equal(state[name], value) for name, value in arrays.items())
