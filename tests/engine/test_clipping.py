import pytest
import torch
from torch import nn

from d2ext.config import get_cfg
from d2ext.engine.clipping import Clip, build_clip
from d2ext.errors import ConfigError


def clip_of(kind: str, limit: float = 1.0) -> Clip | None:
    cfg = get_cfg()
    options = cfg.SOLVER.CLIP_GRADIENTS
    options.ENABLED, options.CLIP_TYPE, options.CLIP_VALUE = True, kind, limit
    return build_clip(cfg)


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    """Gradients (3, 4) and (0, 12): norms 5 and 12, together 13."""
    found = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    found[0].grad, found[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 12.0])
    return found


def test_nothing_is_clipped_by_default() -> None:
    assert build_clip(get_cfg()) is None


def test_full_model_clips_the_total_norm_and_returns_it(parameters: list[nn.Parameter]) -> None:
    clip = clip_of("full_model", 6.5)
    assert clip is not None
    assert clip(parameters) == 13.0
    torch.testing.assert_close(parameters[0].grad, torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.0, 6.0]))


def test_norm_clips_per_parameter(parameters: list[nn.Parameter]) -> None:
    clip = clip_of("norm", 6.0)
    assert clip is not None
    assert clip(parameters) is None
    torch.testing.assert_close(parameters[0].grad, torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.0, 6.0]))


def test_value_clips_every_gradient_entry(parameters: list[nn.Parameter]) -> None:
    clip = clip_of("value", 3.5)
    assert clip is not None
    clip(parameters)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([3.0, 3.5]))


def test_an_unknown_clip_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="'all'; known: value, norm, full_model"):
        clip_of("all")
