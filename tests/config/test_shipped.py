import pytest

from d2ext.config import load_config
from d2ext.config.paths import config_root

CONFIGS = sorted(
    path.relative_to(config_root()).as_posix() for path in config_root().rglob("*.yaml")
)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_config_loads(name):
    cfg = load_config(name)
    assert cfg.VERSION == 2
    if not name.startswith("rcnn/") or name.endswith("own_data.yaml"):
        assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS is (name.startswith("coco/"))


def test_the_coco_recipe_is_the_published_one_in_plain_numbers():
    cfg = load_config("coco/dyhead_swint_atss_fpn_2x_ms.yaml")
    assert [key for key in cfg.AUTO if not key.endswith(".NUM_CLASSES")] == []
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (32, 0.0001)
    assert (cfg.SOLVER.MAX_ITER, tuple(cfg.SOLVER.STEPS)) == (90000, (60000, 80000))
    assert tuple(cfg.INPUT.MIN_SIZE_TRAIN) == (640, 672, 704, 736, 768, 800)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[64], [128], [256], [512], [1024]]
    assert cfg.MODEL.DYHEAD.NUM_BLOCKS == 6
