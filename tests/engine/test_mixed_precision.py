import pytest
import torch

from d2ext.config import get_cfg
from d2ext.engine.mixed_precision import autocast_dtype
from d2ext.errors import ConfigError
from detectron2.config import CfgNode


def config(dtype: str, device: str) -> CfgNode:
    cfg = get_cfg()
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE, cfg.MODEL.DEVICE = True, dtype, device
    return cfg


def test_precision_is_full_by_default() -> None:
    assert autocast_dtype(get_cfg()) is None


@pytest.mark.parametrize(
    ("dtype", "device"), [("bfloat16", "cpu"), ("bfloat16", "cuda"), ("float16", "cuda:1")]
)
def test_half_types_where_they_work(dtype: str, device: str) -> None:
    assert autocast_dtype(config(dtype, device)) is getattr(torch, dtype)


def test_float16_on_a_cpu_is_an_error_that_names_the_other_type() -> None:
    with pytest.raises(ConfigError, match=r"set SOLVER\.AMP\.DTYPE bfloat16"):
        autocast_dtype(config("float16", "cpu"))


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'half'; known: float16, bfloat16"):
        autocast_dtype(config("half", "cuda"))
