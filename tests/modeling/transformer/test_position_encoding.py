import math

import pytest
import torch

from d2ext.modeling.transformer import (
    SinePositionEncoding,
    inverse_sigmoid,
    resize_mask,
    sine_embedding,
)


def mask(height: int, width: int, padded_height: int, padded_width: int) -> torch.Tensor:
    padding = torch.ones(1, padded_height, padded_width, dtype=torch.bool)
    padding[:, :height, :width] = False
    return padding


def test_a_pixel_by_hand():
    encoding = SinePositionEncoding(8, temperature=100.0)(mask(2, 4, 2, 4))[0]
    y, x = 1 / 2 * 2 * math.pi, 3 / 4 * 2 * math.pi  # counts over their last value
    expected = [f(v / t) for v in (y, x) for t in (1, 10) for f in (math.sin, math.cos)]
    torch.testing.assert_close(encoding[:, 0, 2], torch.tensor(expected), atol=1e-5, rtol=0)


def test_half_pixel_positions_are_the_centres_of_pixels():
    encoding = SinePositionEncoding(8, half_pixel=True)(mask(1, 4, 1, 4))[0]
    assert encoding[4, 0, 1] == pytest.approx(math.sin(1.5 / 4 * 2 * math.pi), abs=1e-5)


def test_the_axes_may_have_different_temperatures():
    both = SinePositionEncoding(8, temperature=(20.0, 500.0))(mask(3, 4, 3, 4))
    height = SinePositionEncoding(8, temperature=20.0)(mask(3, 4, 3, 4))
    width = SinePositionEncoding(8, temperature=500.0)(mask(3, 4, 3, 4))
    assert torch.equal(both, torch.cat((height[:, :4], width[:, 4:]), 1))


def test_padding_does_not_change_the_encoding_of_the_image():
    encode = SinePositionEncoding(16)
    alone, padded = encode(mask(3, 5, 3, 5)), encode(mask(3, 5, 6, 9))
    torch.testing.assert_close(padded[:, :, :3, :5], alone)


def test_an_embedding_is_in_the_order_y_x_width_height():
    points = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    embedded = sine_embedding(points, channels=4).view(4, 4)
    assert embedded[:, 0].tolist() == pytest.approx(
        [math.sin(2 * math.pi * v) for v in (0.2, 0.1, 0.3, 0.4)], abs=1e-5
    )
    torch.testing.assert_close(sine_embedding(points[:, :2], 4)[0], embedded[:2].flatten())


def test_masks_are_resized_by_nearest_neighbour():
    resized = resize_mask(mask(40, 70, 64, 96), (2, 3))
    assert resized.tolist() == [[[False, False, False], [False, False, False]]]
    assert resize_mask(mask(31, 33, 64, 96), (2, 3))[0, 1].all()


def test_the_inverse_sigmoid_is_bounded():
    values = torch.tensor([0.0, 0.25, 1.0])
    expected = torch.tensor([-math.log(1000), -math.log(3), math.log(1000)])
    torch.testing.assert_close(inverse_sigmoid(values, eps=1e-3), expected)


def test_channels_must_be_a_multiple_of_4():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        SinePositionEncoding(6)
