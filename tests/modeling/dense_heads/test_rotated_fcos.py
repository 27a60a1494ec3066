import pytest
import torch

import tests.helpers.detectors  # noqa: F401  (registers ExportPyramid)
from d2ext.errors import ConfigError
from d2ext.exporters import exporter_for
from d2ext.modeling.dense_heads import build_dense_head
from d2ext.modeling.dense_heads.rotated_fcos import decode_rotated
from d2ext.ops import box_iou_rotated
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import Instances, RotatedBoxes
from tests.helpers.models import tiny_config

SHAPES = {name: ShapeSpec(channels=32, stride=8 * 2**i) for i, name in enumerate(["p3", "p4"])}


def config(**changes: object) -> CfgNode:
    cfg = tiny_config()
    cfg.MODEL.DENSE_HEAD.NAME, cfg.MODEL.DENSE_HEAD.ROTATED = "RotatedFCOSHead", True
    section = cfg.MODEL.FCOS
    section.NUM_CLASSES, section.CHANNELS, section.IN_FEATURES = 3, 32, ["p3", "p4"]
    section.NUM_CLS_CONVS = section.NUM_BOX_CONVS = 1
    section.SIZES_OF_INTEREST, section.QUALITY, section.BOX_LOSS = [32], "iou", "prob_iou"
    section.merge_from_other_cfg(CfgNode(changes))
    return cfg


def build(**changes: object):
    torch.manual_seed(0)
    return build_dense_head("RotatedFCOSHead", config(**changes), SHAPES)


def features(batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = {"p3": 8, "p4": 4}
    return {n: torch.randn(batch, 32, s, s, generator=generator) for n, s in sides.items()}


def truth(*rows: list[float]) -> Instances:
    instances = Instances((64, 64))
    instances.gt_boxes = RotatedBoxes(torch.tensor(rows).view(-1, 5))
    instances.gt_classes = torch.zeros(len(rows), dtype=torch.int64)
    return instances


@pytest.mark.parametrize("box_loss", ["linear_iou", "prob_iou"])
@pytest.mark.parametrize("rows", [[[30.0, 30.0, 24.0, 8.0, 30.0]], []])
def test_losses_and_gradients_are_finite_with_and_without_boxes(box_loss, rows):
    head = build(BOX_LOSS=box_loss)
    losses = head.losses(head(features(2)), [truth(*rows), truth()])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_iou"}
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert (losses["loss_box_reg"] > 0) == bool(rows)


def test_a_box_is_decoded_from_offset_size_and_twice_its_angle():
    point, angle = torch.tensor([[40.0, 24.0]]), torch.tensor(60.0).deg2rad()
    size = torch.tensor([20.0, 8.0]).log() - torch.tensor(8.0).log()
    direction = 3 * torch.stack(((2 * angle).cos(), (2 * angle).sin()))  # of any length
    outputs = torch.cat((torch.tensor([0.5, -0.25]), size, direction))[None]
    expected = torch.tensor([[44.0, 22.0, 20.0, 8.0, 60.0]])
    torch.testing.assert_close(decode_rotated(point, outputs, 8), expected)


def test_directions_left_and_right_of_the_jump_have_codes_nearby():
    outputs = torch.tensor([[0.0, 0, 1, 0, -1, 0.01], [0.0, 0, 1, 0, -1, -0.01]])
    boxes = decode_rotated(torch.zeros(2, 2), outputs, 8)
    assert (boxes[0, 4] - boxes[1, 4]).abs() > 170
    assert box_iou_rotated(boxes[:1], boxes[1:]).item() > 0.97


def test_a_box_is_learned_and_found_in_its_direction():
    head, box = build(NORM=""), [28.0, 36.0, 30.0, 10.0, 120.0]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(60):
        losses = head.losses(head(features(1)), [truth(box)])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = head.decode(head(features(1)), [(64, 64)])
    assert isinstance(found.pred_boxes, RotatedBoxes)
    assert box_iou_rotated(found.pred_boxes.tensor[:1], torch.tensor([box])).item() > 0.7
    assert found.pred_classes[0] == 0


def test_a_config_that_does_not_say_rotated_is_refused():
    cfg = config()
    cfg.MODEL.DENSE_HEAD.ROTATED = False
    with pytest.raises(ConfigError, match=r"DENSE_HEAD\.ROTATED"):
        build_dense_head("RotatedFCOSHead", cfg, SHAPES)


def test_centerness_has_no_meaning_here():
    with pytest.raises(ConfigError, match="QUALITY"):
        build(QUALITY="centerness")


def test_the_detector_gives_rotated_boxes_which_cannot_be_exported():
    cfg = config()
    cfg.MODEL.META_ARCHITECTURE = "DenseDetector"
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.FCOS.SCORE_THRESH_TEST = "ExportPyramid", 0.0
    model = build_model(cfg).eval()
    with torch.no_grad():
        found = model([{"image": torch.zeros(3, 64, 96), "height": 128, "width": 192}])[0]
    assert found["instances"].pred_boxes.tensor.shape[1] == 5
    with pytest.raises(ConfigError, match="upright"):
        exporter_for(model)
