"""The config that trained weights have."""

from argparse import Namespace

import pytest
import torch

from d2ext.engine.config_choice import load_run_config, load_trained_config
from d2ext.errors import ConfigError, WeightsError


def test_published_weights_have_the_recipe_of_the_model_zoo():
    cfg = load_trained_config("", ["MODEL.WEIGHTS", "dyhead_swint"])
    assert cfg.MODEL.DENSE_HEAD.NAME
    assert cfg.MODEL.FPN.BOTTOM_UP == "SwinTransformer"
    assert cfg.MODEL.WEIGHTS == "dyhead_swint"


def test_a_config_file_wins_over_that_of_the_weights():
    cfg = load_trained_config("configs/dyhead_regnetx200m.yaml", ["MODEL.WEIGHTS", "dyhead_swint"])
    assert cfg.MODEL.FPN.BOTTOM_UP == "TimmBackbone"


def test_weights_without_a_config_need_one(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="--config-file FILE names"):
        load_trained_config("", ["MODEL.WEIGHTS", str(tmp_path / "a.pth")])


def test_no_weights_and_unknown_names_are_said():
    with pytest.raises(WeightsError, match="no weights"):
        load_trained_config("", [])
    with pytest.raises(WeightsError, match="dyheed"):
        load_trained_config("", ["MODEL.WEIGHTS", "dyheed_swint"])


@pytest.mark.parametrize(
    ("config", "opts", "reference"),
    [
        ("configs/coco/fcos_r50_fpn_1x.yaml", [], 0),
        ("configs/coco/fcos_r50_fpn_1x.yaml", ["SOLVER.IMS_PER_BATCH", "4"], 16),
        ("configs/coco/fcos_r50_fpn_1x.yaml", ["SOLVER.ACCUMULATE", "4"], 16),
        ("configs/coco/dyhead_swint_atss_fpn_2x_ms.yaml", ["SOLVER.IMS_PER_BATCH", "4"], 32),
        (
            "configs/coco/fcos_r50_fpn_1x.yaml",
            ["SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.002"],
            0,
        ),
        ("configs/atss_lite0.yaml", ["SOLVER.IMS_PER_BATCH", "4"], 0),
    ],
)
def test_a_batch_size_of_the_command_refers_to_that_of_the_file(config, opts, reference):
    cfg, _ = load_run_config(Namespace(config_file=config, opts=opts, resume=False), {}, "")
    assert reference == cfg.SOLVER.REFERENCE_BATCH_SIZE
