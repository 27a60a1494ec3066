import pytest
import torch

from d2ext.inference.semantic_regions import regions_of


def test_each_class_is_a_region_sorted_by_score():
    logits = torch.zeros(4, 6, 8)
    logits[2] = 1.0
    logits[0, 1:3, 2:5] = 9.0
    found = regions_of(logits)
    assert found.pred_classes.tolist() == [0, 2]
    assert found.pred_boxes.tensor.tolist() == [[2, 1, 5, 3], [0, 0, 8, 6]]
    assert found.pred_masks.sum((1, 2)).tolist() == [6, 42]
    assert found.image_size == (6, 8)
    probability = torch.tensor([0.0, 0.0, 1.0, 0.0]).softmax(0)[2]
    assert found.scores[1].item() == pytest.approx(probability.item())
