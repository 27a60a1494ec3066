import torch

from d2ext.layers import DeformConvPack
from d2ext.modeling.dense_heads.common import (
    best_detections,
    cell_centers,
    conv_tower,
    flatten_cells,
    prior_bias,
)


def test_cells_are_flattened_row_by_row_with_the_anchors_of_a_cell_together():
    level = torch.arange(2 * 3 * 2 * 2).view(1, 6, 2, 2)  # two anchors of three numbers each
    cells = flatten_cells(level, 3)
    assert cells.shape == (1, 8, 3)
    assert cells[0, 0].tolist() == [0, 4, 8]  # anchor 0 of the first cell
    assert cells[0, 1].tolist() == [12, 16, 20]  # anchor 1 of the first cell
    assert cells[0, 2].tolist() == [1, 5, 9]  # anchor 0 of the next cell in the row


def test_the_prior_bias_gives_the_probability():
    torch.testing.assert_close(torch.tensor(prior_bias(0.01)).sigmoid(), torch.tensor(0.01))


def test_centres_of_cells_run_along_rows():
    centers = cell_centers(torch.zeros(1, 1, 2, 3), stride=8)
    assert centers.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_the_last_convolution_of_a_tower_may_be_deformable():
    tower = conv_tower(8, 32, num_convs=2, norm="GN", deformable=True, num_levels=5)
    assert [type(layer) for layer in tower[::3]] == [torch.nn.Conv2d, DeformConvPack]
    assert tower(torch.randn(1, 8, 5, 4), level=0).shape == (1, 32, 5, 4)
    plain = conv_tower(8, 32, num_convs=2, norm="", deformable=False, num_levels=5)
    assert [type(layer) for layer in plain] == [torch.nn.Conv2d, torch.nn.ReLU] * 2


def test_of_overlapping_detections_of_a_class_the_best_stays_clipped_to_the_image():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 0, 60, 10]])
    scores, classes = torch.tensor([0.6, 0.9, 0.5, 0.8]), torch.tensor([1, 1, 2, 1])
    levels = zip(boxes.split(2), scores.split(2), classes.split(2), strict=True)
    found = best_detections(levels, (8, 20), nms_thresh=0.5, max_detections=3)
    assert found.pred_boxes.tensor.tolist() == [[1, 0, 11, 8], [0, 0, 10, 8]]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.5]))
    assert found.pred_classes.tolist() == [1, 2]
