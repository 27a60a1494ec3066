import math
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest

from d2ext.config import load_config
from d2ext.config.load import num_classes_keys
from d2ext.engine.auto import (
    _RULES,
    check_auto,
    inherit_auto,
    register_auto,
    resolve_auto,
)
from d2ext.engine.machine import Machine
from d2ext.errors import ConfigError

CPU = Machine(device="cpu", processes=1, cores=2, bfloat16=True)
GPU = Machine(device="cuda", processes=1, cores=8, bfloat16=True)


def stats(count, width, height, classes=3, objects=64, run_lengths=False, keypoints=0):
    names = tuple(f"class {n}" for n in range(classes))
    return SimpleNamespace(
        class_names=names,
        stuff_names=names,
        image_sizes=np.tile([[width, height]], (count, 1)),
        object_sizes=np.full((5, 2), objects),
        run_lengths=run_lengths,
        num_keypoints=keypoints,
    )


@pytest.fixture
def cfg():
    return load_config("configs/dyhead_swint.yaml")


def test_no_key_is_auto_after_resolving(cfg):
    resolve_auto(cfg, stats(100, 640, 480), CPU)
    assert cfg.AUTO == []


def test_a_key_without_a_rule_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("SOLVER: {STEPS: auto}")
    with pytest.raises(ConfigError, match=r"SOLVER\.STEPS cannot be auto"):
        check_auto(load_config(path))


def test_class_counts_follow_the_data(cfg):
    resolve_auto(cfg, stats(100, 640, 480, classes=5), CPU)
    assert set(num_classes_keys(cfg).values()) == {5}


def test_a_cpu_trains_on_images_smaller_than_they_are(cfg):
    resolve_auto(cfg, stats(100, 160, 128), CPU)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (96,)
    assert cfg.INPUT.MIN_SIZE_TEST == 96


@pytest.mark.parametrize(("machine", "again"), [(CPU, False), (GPU, True)])
def test_gradient_checkpointing_is_on_for_large_images(cfg, machine, again):
    resolve_auto(cfg, stats(100, 640, 480), machine)
    assert cfg.MODEL.DYHEAD.USE_CHECKPOINT is again
    assert cfg.MODEL.SWIN.USE_CHECKPOINT is again


def test_a_gpu_trains_on_large_images_at_the_papers_size(cfg):
    resolve_auto(cfg, stats(100_000, 1920, 1080), GPU)
    assert cfg.INPUT.MIN_SIZE_TEST == 800
    assert cfg.INPUT.MAX_SIZE_TEST == 1334
    assert max(cfg.INPUT.MIN_SIZE_TRAIN) == 800
    assert cfg.SOLVER.IMS_PER_BATCH == 2


def test_a_given_batch_size_sets_the_learning_rate(cfg):
    given = load_config("configs/dyhead_swint.yaml", ["SOLVER.IMS_PER_BATCH", "2"])
    resolve_auto(cfg, stats(1000, 160, 128), CPU)
    resolve_auto(given, stats(1000, 160, 128), CPU)
    assert given.SOLVER.IMS_PER_BATCH == 2
    assert given.SOLVER.BASE_LR < cfg.SOLVER.BASE_LR


def test_few_images_make_several_batches_per_epoch(cfg):
    resolve_auto(cfg, stats(16, 160, 128), CPU)
    assert cfg.SOLVER.IMS_PER_BATCH == 2


def test_a_pretrained_start_on_a_cpu_is_short_and_evaluated_at_its_end():
    found = {}
    for weights in ("", "efficientnet_lite0"):
        cfg = load_config("configs/atss_lite0.yaml", ["MODEL.WEIGHTS", weights])
        resolve_auto(cfg, stats(205, 640, 480), CPU)
        iterations = cfg.SOLVER.MAX_EPOCHS * math.ceil(205 / cfg.SOLVER.IMS_PER_BATCH)
        found[weights] = iterations // cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_EPOCHS
        assert cfg.MODEL.TIMM.FREEZE_NORM is cfg.MODEL.TIMM.FREEZE_DEPTHWISE is bool(weights)
    assert found == {"": (4, 12), "efficientnet_lite0": (1, 7)}


def test_a_pretrained_backbone_learns_all_its_layers_on_a_gpu():
    cfg = load_config("configs/atss_lite0.yaml", ["MODEL.WEIGHTS", "efficientnet_lite0"])
    resolve_auto(cfg, stats(205, 640, 480), GPU)
    assert not cfg.MODEL.TIMM.FREEZE_NORM
    assert not cfg.MODEL.TIMM.FREEZE_DEPTHWISE


def test_auto_values_of_the_weights_are_inherited(cfg):
    inherit_auto(cfg, "INPUT: {MIN_SIZE_TEST: 96}\nMODEL: {ATSS: {NUM_CLASSES: 9}}")
    assert cfg.INPUT.MIN_SIZE_TEST == 96
    assert cfg.MODEL.ATSS.NUM_CLASSES == 9
    assert "INPUT.MIN_SIZE_TEST" not in cfg.AUTO
    assert "INPUT.MAX_SIZE_TEST" in cfg.AUTO


def test_mixed_precision_is_for_devices_that_have_it(cfg):
    slow = load_config("configs/dyhead_swint.yaml")
    resolve_auto(cfg, stats(100, 160, 128), CPU)
    resolve_auto(slow, stats(100, 160, 128), Machine("cpu", 1, 2, bfloat16=False))
    assert cfg.SOLVER.AMP.ENABLED
    assert not slow.SOLVER.AMP.ENABLED


def test_small_images_get_small_anchors(cfg):
    resolve_auto(cfg, stats(100, 160, 128), CPU)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[32], [64], [128], [256], [512]]


@pytest.mark.parametrize(("objects", "side"), [(64, 256), (20, 416), (8, 512)])
def test_small_objects_keep_16_pixels_on_a_cpu_where_the_images_have_them(cfg, objects, side):
    machine = Machine(device="cpu", processes=1, cores=2, bfloat16=False)
    resolve_auto(cfg, stats(100, 640, 512, objects=objects), machine)
    assert side == cfg.INPUT.MIN_SIZE_TEST


def test_small_images_of_small_objects_are_enlarged_on_a_cpu(cfg):
    resolve_auto(cfg, stats(100, 320, 256, objects=12), CPU)
    assert cfg.INPUT.MIN_SIZE_TEST == 352  # 256 * 16 / 12, in multiples of 32


@pytest.mark.parametrize(
    ("objects", "width", "height", "machine", "side"),
    [
        (14, 640, 512, CPU, 256),
        (14, 640, 512, GPU, 0),
        (30, 640, 512, CPU, 0),  # large enough
        (14, 320, 256, CPU, 0),  # an image is hardly larger than a tile
        (14, 4000, 3000, CPU, 0),  # too large to predict on, enlarged
    ],
)
def test_a_cpu_learns_small_objects_from_enlarged_tiles(objects, width, height, machine, side):
    cfg = load_config("configs/rotated_fcos_lite0.yaml")
    resolve_auto(cfg, stats(120, width, height, objects=objects), machine)
    assert side == cfg.INPUT.SLICE_SIZE
    if side:
        assert cfg.INPUT.MIN_SIZE_TRAIN == (384,)
        assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (768, 1280)


def test_a_training_on_tiles_is_evaluated_at_its_end():
    cfg = load_config("configs/rotated_fcos_lite0.yaml", ["MODEL.WEIGHTS", "efficientnet_lite0"])
    resolve_auto(cfg, stats(120, 640, 512, objects=14), CPU)
    tiles = 120 * 6
    assert cfg.SOLVER.MAX_EPOCHS == 12
    assert 12 * tiles / 2 == cfg.TEST.EVAL_PERIOD
    assert 12 * tiles / 2 // 20 == cfg.SOLVER.WARMUP_ITERS


@pytest.mark.parametrize(("run_lengths", "form"), [(True, "bitmask"), (False, "polygon")])
def test_masks_are_bitmaps_where_the_data_have_run_lengths(run_lengths, form):
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml")
    machine = Machine(device="cpu", processes=1, cores=2, bfloat16=False)
    resolve_auto(cfg, stats(100, 640, 512, run_lengths=run_lengths), machine)
    assert form == cfg.INPUT.MASK_FORMAT


@pytest.mark.parametrize(("keypoints", "sigmas"), [(17, 0), (3, 3)])
def test_number_of_keypoints_and_oks_sigmas_follow_the_data(keypoints, sigmas):
    cfg = load_config("configs/keypoint_rcnn_regnetx200m.yaml")
    resolve_auto(cfg, stats(100, 640, 512, keypoints=keypoints), CPU)
    assert keypoints == cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    assert len(cfg.TEST.KEYPOINT_OKS_SIGMAS) == sigmas


def test_a_semantic_head_has_as_many_classes_as_the_masks():
    cfg = load_config("configs/semantic_fpn_regnetx200m.yaml")
    machine = Machine(device="cpu", processes=1, cores=2, bfloat16=False)
    resolve_auto(cfg, stats(10, 640, 512, classes=5), machine)
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 5


@pytest.mark.parametrize(
    ("width", "height", "area"), [(640, 480, 4096), (64, 48, 41), (900, 900, 4096)]
)
def test_the_least_area_of_stuff_is_a_share_of_small_images(width, height, area):
    cfg = load_config("configs/rcnn/panoptic_fpn_r50_own_data.yaml")
    resolve_auto(cfg, stats(10, width, height), CPU)
    assert area == cfg.MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT


@pytest.mark.parametrize(("machine", "largest", "test"), [(CPU, 256, 768), (GPU, 256, 800)])
def test_a_semantic_fpn_is_tested_at_the_scale_of_its_smallest_crops(machine, largest, test):
    cfg = load_config("configs/semantic_fpn_regnetx200m.yaml")
    resolve_auto(cfg, stats(36, 800, 640), machine)
    sizes = (max(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MIN_SIZE_TEST)
    assert sizes == (largest, test)
    assert math.ceil(test * 5 / 3) == cfg.INPUT.MAX_SIZE_TEST


@pytest.mark.parametrize("option", ["INPUT.CROP.ENABLED False", "INPUT.CROP.TYPE absolute"])
def test_a_semantic_fpn_without_relative_crops_is_tested_at_its_training_size(option):
    cfg = load_config("configs/semantic_fpn_regnetx200m.yaml", option.split())
    resolve_auto(cfg, stats(36, 800, 640), CPU)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (cfg.INPUT.MIN_SIZE_TEST,)


def test_test_time_augmentation_of_a_detector_mirrors_at_its_test_size(cfg):
    resolve_auto(cfg, stats(100, 640, 480), CPU)
    assert cfg.TEST.AUG.MIN_SIZES == (cfg.INPUT.MIN_SIZE_TEST,)


def test_a_registered_rule_reads_the_values_of_keys_registered_earlier(tmp_path, monkeypatch):
    monkeypatch.setattr("d2ext.engine.auto._RULES", deepcopy(_RULES))
    register_auto("SOLVER.MOMENTUM", lambda cfg, stats, machine: cfg.INPUT.MAX_SIZE_TRAIN / 1000)
    path = tmp_path / "config.yaml"
    path.write_text("{SOLVER: {MOMENTUM: auto}, INPUT: {MAX_SIZE_TRAIN: auto}}")
    cfg = load_config(path)
    resolve_auto(cfg, stats(100, 160, 128), CPU)
    assert pytest.approx(0.16) == cfg.SOLVER.MOMENTUM
