from pathlib import Path

import pytest

from d2ext.config import load_config

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_loads(path):
    cfg = load_config(path)
    assert cfg.VERSION == 2
    assert cfg.INPUT.FORMAT == "BGR"
    assert (cfg.INPUT.RESIZE, cfg.MODEL.PIXEL_STD) == ("stretch", [255.0] * 3)


def test_the_coco_recipe_is_the_published_one_in_plain_numbers():
    cfg = load_config("projects/yolo_fastest/configs/yolo_fastest_v2_coco.yaml")
    assert [key for key in cfg.AUTO if not key.endswith(".NUM_CLASSES")] == []
    assert list(cfg.INPUT.SIZE) == [352, 352]
    solver = cfg.SOLVER
    per_epoch = 118_287 // solver.IMS_PER_BATCH
    assert 300 * per_epoch == solver.MAX_ITER
    assert (150 * per_epoch, 250 * per_epoch) == solver.STEPS
    assert 5 * per_epoch == solver.WARMUP_ITERS
    assert (solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY) == (0.001, 0.949, 0.0005)
    assert solver.WEIGHT_DECAY_NORM == solver.WEIGHT_DECAY
