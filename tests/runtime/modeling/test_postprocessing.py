"""Postprocessing: detections at the size of the original image."""

import torch

import d2ext  # noqa: F401
from detectron2.modeling import detector_postprocess
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import Boxes, Instances


def detections(size: tuple[int, int], boxes: list[list[float]]) -> Instances:
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(boxes))
    found.scores = torch.arange(len(boxes)).float()
    return found


def test_boxes_are_rescaled_and_clipped_and_empty_ones_dropped():
    found = detections((10, 20), [[1.0, 1, 5, 5], [15, 2, 30, 8], [25, 2, 30, 8]])
    result = detector_postprocess(found, 20, 60)
    assert result.image_size == (20, 60)
    assert result.pred_boxes.tensor.tolist() == [[3, 2, 15, 10], [45, 4, 60, 16]]
    assert result.scores.tolist() == [0, 1]


def test_masks_are_pasted_into_the_new_boxes():
    found = detections((4, 4), [[1.0, 1, 3, 3]])
    found.pred_masks = torch.ones(1, 1, 14, 14)
    masks = detector_postprocess(found, 8, 8).pred_masks
    expected = torch.zeros(1, 8, 8, dtype=torch.bool)
    expected[0, 2:6, 2:6] = True
    assert torch.equal(masks, expected)


def test_keypoints_are_rescaled_and_their_scores_kept():
    found = detections((10, 10), [[0.0, 0, 9, 9]])
    found.pred_keypoints = torch.tensor([[[1.0, 2, 0.5]]])
    result = detector_postprocess(found, 30, 20)
    assert result.pred_keypoints.tolist() == [[[2, 6, 0.5]]]


def test_proposals_are_rescaled_like_predictions():
    found = Instances((10, 10))
    found.proposal_boxes = Boxes(torch.tensor([[1.0, 1, 2, 2]]))
    result = detector_postprocess(found, 20, 20)
    assert result.proposal_boxes.tensor.tolist() == [[2, 2, 4, 4]]


def test_padding_of_semantic_scores_is_cropped():
    scores = torch.zeros(2, 4, 4)
    scores[:, :2, :2] = 1
    result = sem_seg_postprocess(scores, (2, 2), 6, 8)
    assert result.shape == (2, 6, 8)
    assert result.min().item() == 1
