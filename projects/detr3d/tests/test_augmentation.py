"""GridMask blanks squares of training batches; photometric distortion changes colours alone."""

import random

import cv2
import numpy as np
import pytest
import torch

from d2ext.projects.detr3d.data import mapper
from d2ext.projects.detr3d.data.mapper import distort_colours
from d2ext.projects.detr3d.modeling.grid_mask import GridMask


@pytest.fixture
def seeded():
    """Seeds the generators that augmentations draw from, for the test alone."""
    state = random.getstate()
    random.seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    random.setstate(state)


@pytest.fixture
def heads(monkeypatch):
    """Sets the outcomes of the coin tosses of a distortion, in their order."""

    def toss(*outcomes):
        left = iter(outcomes)
        monkeypatch.setattr(mapper, "_heads", lambda: next(left))
        return left

    return toss


def test_all_images_of_a_batch_are_masked_alike(seeded):
    masked = GridMask(1.0).train()(torch.ones(3, 2, 40, 60))
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    assert (masked == masked[0, 0]).all()


def test_a_quarter_is_blanked_on_average(seeded):
    mask = GridMask(1.0).train()
    images = torch.ones(1, 1, 90, 160)
    kept = torch.stack([mask(images).mean() for _ in range(200)]).mean()
    assert 0.7 < kept < 0.8


def test_what_is_blanked_are_squares_of_a_grid(seeded):
    blank = GridMask(1.0).train()(torch.ones(1, 1, 64, 96))[0, 0] == 0
    rows, columns = blank.any(1), blank.any(0)
    assert torch.equal(blank, rows[:, None] & columns)


def test_a_share_of_the_batches_is_masked_in_training_only(seeded):
    mask, images = GridMask(0.7), torch.ones(1, 1, 32, 48)
    changed = sum(not torch.equal(mask(images), images) for _ in range(300))
    assert 180 < changed < 240
    assert torch.equal(mask.eval()(images), images)
    assert torch.equal(GridMask(0.0).train()(images), images)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_images_of_a_few_pixels_can_be_masked(seeded, size):
    assert GridMask(1.0).train()(torch.ones(1, 1, size, size)).shape == (1, 1, size, size)


def image():
    return np.random.default_rng(0).uniform(60, 180, (16, 24, 3)).astype(np.float32)


def test_no_heads_leave_the_colours(heads):
    heads(*[False] * 6)
    np.testing.assert_allclose(distort_colours(image()), image(), atol=0.01)


def test_brightness_moves_all_channels_alike(heads, seeded):
    heads(True, *[False] * 5)
    moved = distort_colours(image()) - image()
    assert 0 < abs(moved.mean()) <= mapper.BRIGHTNESS
    np.testing.assert_allclose(moved, moved.mean(), atol=0.02)


@pytest.mark.parametrize("outcomes", [[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
def test_contrast_scales_all_channels_alike_first_or_last(heads, seeded, outcomes):
    heads(*map(bool, outcomes))
    scale = distort_colours(image()) / image()
    assert mapper.CONTRAST[0] <= scale.mean() <= mapper.CONTRAST[1]
    assert abs(scale.mean() - 1) > 0.01
    np.testing.assert_allclose(scale, scale.mean(), atol=1e-3)


def test_saturation_and_hue_leave_the_value(heads, seeded):
    heads(False, False, True, True, False, False)
    before, after = image(), distort_colours(image())
    np.testing.assert_allclose(after.max(-1), before.max(-1), rtol=1e-3)
    hue, moved = (cv2.cvtColor(each, cv2.COLOR_BGR2HSV)[..., 0] for each in (before, after))
    turn = (moved - hue + 180) % 360 - 180
    assert 0 < abs(np.median(turn)) <= mapper.HUE
    assert not np.allclose(after.min(-1), before.min(-1), rtol=1e-3)


def test_channels_swap(heads, monkeypatch):
    heads(*[False] * 5, True)
    monkeypatch.setattr(random, "sample", lambda population, count: [2, 0, 1])
    np.testing.assert_allclose(distort_colours(image()), image()[..., [2, 0, 1]], atol=0.01)


def test_a_training_mapper_distorts_and_the_others_do_not(items, monkeypatch):
    from d2ext.config import load_config
    from d2ext.projects.detr3d.data.mapper import build_camera_mapper
    from d2ext.projects.detr3d.tests.conftest import CONFIG

    monkeypatch.setattr(mapper, "distort_colours", lambda image: image * 0 + 7)
    cfg = load_config(CONFIG, ["MODEL.DETR3D.DISTORT_COLOURS", "True"])
    for mode, distorted in (("train", True), ("validation", False), ("test", False)):
        pixels = build_camera_mapper(cfg, mode, ())(items[0])["image"]
        assert bool((pixels == 7).all()) == distorted
