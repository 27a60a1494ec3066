"""`detectron2.structures.keypoints`: keypoints and their heat maps."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.structures import Keypoints, heatmaps_to_keypoints


def test_a_keypoint_is_encoded_as_its_heat_map_cell():
    points = [[1, 2, 2], [3.5, 4, 1], [10, 10, 2], [11, 5, 2], [5, 5, 0]]
    cells, valid = Keypoints([points]).to_heatmap(torch.tensor([[0.0, 0, 10, 10]]), 7)
    assert cells.tolist() == [[7, 16, 48, 0, 0]]
    assert valid.tolist() == [[1, 1, 1, 0, 0]]


def test_an_empty_set_of_keypoints_is_encoded():
    cells, valid = Keypoints(torch.zeros(0, 17, 3)).to_heatmap(torch.zeros(0, 4), 5)
    assert cells.numel() == valid.numel() == 0
    assert cells.dtype == torch.int64


def test_keypoints_are_indexed_and_concatenated():
    some = Keypoints(torch.arange(18.0).reshape(3, 2, 3))
    assert len(some[1:]) == 2
    assert some[torch.tensor([False, True, False])].tensor[0, 0].tolist() == [6, 7, 8]
    assert len(Keypoints.cat([some, some])) == 6


def test_keypoints_of_other_shapes_are_refused():
    with pytest.raises((ValueError, AssertionError)):
        Keypoints(torch.zeros(2, 3))


def test_a_heat_map_maximum_is_decoded_to_its_place_in_the_box():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 2] = 10
    x, y, logit, score = heatmaps_to_keypoints(maps, torch.tensor([[10.0, 20, 14, 24]]))[0, 0]
    assert (x, y, logit) == (12.5, 21.5, 10)
    # One cell of 10 among fifteen of 0.
    assert score.item() == pytest.approx(1 / (1 + 15 * 2.718281828**-10))


def test_an_empty_set_of_heat_maps_is_decoded():
    assert heatmaps_to_keypoints(torch.zeros(0, 3, 4, 4), torch.zeros(0, 4)).shape == (0, 3, 4)


def test_decoding_inverts_encoding():
    roi = torch.tensor([[2.5, 3.0, 58.5, 59.0]])
    cell, _ = Keypoints([[[30.0, 41.0, 2]]]).to_heatmap(roi, 56)
    maps = torch.nn.functional.one_hot(cell, 56 * 56).reshape(1, 1, 56, 56) * 9.0
    assert heatmaps_to_keypoints(maps, roi)[0, 0, :2].tolist() == [30.0, 41.5]
