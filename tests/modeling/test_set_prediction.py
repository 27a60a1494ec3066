import torch

from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks


def instances(height: int, width: int, boxes: list[list[float]]) -> Instances:
    found = Instances((height, width))
    found.gt_boxes = Boxes(torch.tensor(boxes).view(-1, 4))
    found.gt_classes = torch.arange(len(boxes))
    return found


def test_boxes_are_normalised_by_the_image():
    targets = SetTargets.from_instances(instances(50, 100, [[10.0, 10, 30, 40]]), "a.jpg")
    torch.testing.assert_close(targets.boxes, torch.tensor([[0.2, 0.5, 0.2, 0.6]]))
    assert (targets.counts, targets.image_names) == ([1], ["a.jpg"])


def test_targets_of_a_batch_know_their_images():
    three = [[0.0, 0, 1, 1]] * 3
    each = [SetTargets.from_instances(instances(9, 9, boxes)) for boxes in (three, [], three[:1])]
    targets = SetTargets.cat(each)
    assert targets.image_index().tolist() == [0, 0, 0, 2]
    assert targets.classes.tolist() == [0, 1, 2, 0]


def test_masks_are_padded_to_the_largest_image():
    wide, high = instances(2, 3, [[0.0, 0, 3, 2]]), instances(4, 1, [[0.0, 0, 1, 4]])
    wide.gt_masks = PolygonMasks([[torch.tensor([0.0, 0, 3, 0, 3, 2, 0, 2]).numpy()]])
    high.gt_masks = BitMasks(torch.ones(1, 4, 1, dtype=torch.bool))
    targets = SetTargets.cat(
        [SetTargets.from_instances(each, with_masks=True) for each in (wide, high)]
    )
    assert targets.masks.shape == (2, 4, 3)
    assert targets.masks[1].nonzero().tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]
    assert not targets.masks[0, 2:].any()


def test_layers_are_named_as_their_losses():
    logits = torch.zeros(3, 1, 1, 1)
    assert SetPredictions(logits, logits).layer_names() == ["_0", "_1", ""]
    assert SetPredictions(logits, logits, name="dn").layer_names() == ["_dn_0", "_dn_1", "_dn"]


def test_the_last_layer_keeps_its_pairs():
    logits = torch.zeros(2, 1, 1, 1)
    pairs = Matches(torch.tensor([0]), torch.tensor([[4], [5]]), torch.tensor([[0], [1]]))
    last = SetPredictions(logits, logits, matches=pairs).last_layer()
    assert (last.matches.query.tolist(), last.matches.target.tolist()) == ([[5]], [[1]])
