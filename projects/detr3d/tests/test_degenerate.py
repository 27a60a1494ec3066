"""Input that crashes the authors' code: no ground truth, boxes without a size, unseen points."""

import pytest
import torch

from d2ext.projects.detr3d.modeling.box_code import switch_convention
from detectron2.structures import Instances


def sample(boxes, behind=False):
    """A sample whose cameras look along x of the lidar frame, or see no point at all."""
    project = torch.tensor([[48.0, -60, 0, 0], [32.0, 0, -60, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    if behind:
        project[2] = torch.tensor([0.0, 0, 0, -1])
    instances = Instances((64, 96))
    instances.gt_boxes_3d = torch.tensor(boxes).reshape(-1, 9)
    instances.gt_classes = torch.zeros(len(instances.gt_boxes_3d), dtype=torch.int64)
    images = torch.rand(6, 3, 64, 96) * 255
    return {"image": images, "lidar2img": project.expand(6, 4, 4), "instances": instances}


BOX = [8.0, 1, 0, 2, 4, 1.5, 0.3, 1, 0]
FLAT = [8.0, 1, 0, 2, 0, 1.5, 0.3, 1, 0]
UNKNOWN = [8.0, 1, 0, 2, 4, 1.5, 0.3, float("nan"), float("nan")]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("boxes", [[], [FLAT], [BOX], [UNKNOWN], [BOX, FLAT, UNKNOWN]])
def test_losses_and_gradients_are_finite(build, boxes, behind):
    model = build().train()
    losses = model([sample(boxes, behind), sample([BOX])])
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_batch_without_any_box_learns_background(build):
    losses = build().train()([sample([])])
    assert losses["loss_bbox"] == 0
    assert losses["loss_ce"] > 0


def test_boxes_without_a_size_do_not_count(build):
    model = build().eval()
    model.training = True
    without, with_flat = model([sample([BOX])]), model.targets([sample([BOX, FLAT])])
    assert without["loss_bbox"] > 0
    assert with_flat[0].counts == [1]


def test_conventions_of_boxes_convert_back_and_forth(build):
    boxes = torch.tensor([BOX])
    switched = switch_convention(boxes)
    assert switched[0, 3:5].tolist() == [4, 2]
    torch.testing.assert_close(switch_convention(switched), boxes)
    old, new = (build(BOX_CONVENTION=each) for each in ("mmdet3d_0", "mmdet3d_1"))
    for model in (old, new):
        model.eval()
    batch = [sample([])]
    found = [model(batch)[0]["boxes_3d"].boxes for model in (old, new)]
    torch.testing.assert_close(switch_convention(found[0]), found[1])
