import torch
from torch import Tensor

from d2ext.modeling.matching import assign_atss
from detectron2.structures import Boxes


def grid(stride: int, side: int, cells: int) -> Boxes:
    """Square anchors of `side` pixels at the centres of cells x cells cells."""
    place = (torch.arange(cells) + 0.5) * stride
    y, x = torch.meshgrid(place, place, indexing="ij")
    centers = torch.stack((x, y), dim=-1).view(-1, 2)
    return Boxes(torch.cat((centers - side / 2, centers + side / 2), dim=1))


LEVELS = [grid(8, 16, 8), grid(16, 32, 4), grid(32, 64, 2)]


def match(boxes: list[list[float]], images: list[int], num_images: int = 1) -> Tensor:
    boxes = Boxes(torch.tensor(boxes).view(-1, 4))
    images = torch.tensor(images, dtype=torch.int64)
    return assign_atss(LEVELS, boxes, images, num_images, topk=9)


def test_no_boxes_leave_all_anchors_to_the_background():
    assert torch.equal(match([], [], 3), torch.full((3, 84), -1))


def test_a_box_like_an_anchor_takes_that_one_alone():
    matched = match([[4.0, 4.0, 20.0, 20.0]], [0])
    assert matched[0].nonzero().numel() == 84 - 1  # the index 0 is the one match
    assert matched[0, 9] == 0  # row 1, column 1 of the finest level


def test_a_large_box_takes_anchors_of_a_coarse_level():
    matched = match([[0.0, 0.0, 33.0, 33.0]], [0])
    assert (matched[0, :64] == -1).all()
    assert (matched[0, 64:] == 0).any()


def test_an_anchor_claimed_twice_goes_to_the_box_of_higher_overlap():
    far, near = [2.0, 2.0, 20.0, 20.0], [4.0, 4.0, 20.0, 20.0]
    assert match([far, near], [0, 0])[0, 9] == 1
    assert match([near, far], [0, 0])[0, 9] == 0


def test_of_equal_boxes_the_first_takes_the_anchors():
    box = [4.0, 4.0, 20.0, 20.0]
    assert set(match([box, box], [0, 0])[0].tolist()) == {-1, 0}


def test_images_of_a_batch_do_not_disturb_each_other():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(7, 2, 2, generator=generator) * 64
    boxes = torch.cat((corners.amin(1), corners.amax(1)), dim=1).tolist()
    images = [2, 0, 0, 2, 2, 0, 0]  # image 1 has none
    together = match(boxes, images, 3)
    for image in range(3):
        own = [i for i, other in enumerate(images) if other == image]
        alone = match([boxes[i] for i in own], [0] * len(own))[0]
        there = torch.tensor([*own, -1])[alone]
        assert torch.equal(there, together[image])


def test_anchors_whose_centre_lies_outside_the_box_are_background():
    matched = match([[5.0, 5.0, 7.0, 7.0]], [0])  # between the centres of four cells
    assert (matched == -1).all()
