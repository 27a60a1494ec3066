"""The recipes for own data learn with all their parameters, as several processes need it."""

from pathlib import Path

import pytest
import torch

from d2ext.config import load_config
from d2ext.engine.dataless import build_model_without_data
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, RotatedBoxes
from detectron2.utils.analysis import find_unused_parameters
from detectron2.utils.events import EventStorage
from tests.helpers.own_data import own_data_recipes
from tests.helpers.runtime_rcnn import batch

RECIPES = [file for file in own_data_recipes() if Path(file).name != "own_data.yaml"]


def items(cfg: CfgNode) -> list[dict]:
    """Return two images with whatever the model of the config learns from."""
    found = batch()
    for item in found:
        truth = item["instances"]
        truth.gt_classes.zero_()
        truth.gt_keypoints.tensor = truth.gt_keypoints.tensor[
            :, : cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
        ]
        if cfg.INPUT.MASK_FORMAT == "bitmask":
            truth.gt_masks = BitMasks.from_polygon_masks(truth.gt_masks, *truth.image_size)
        if cfg.MODEL.DENSE_HEAD.ROTATED or cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RRPN":
            (x0, y0, x1, y1), angle = truth.gt_boxes.tensor.unbind(1), torch.full((3,), 20.0)
            middle = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, angle)
            truth.gt_boxes = RotatedBoxes(torch.stack(middle, dim=1))
        item["sem_seg"] = torch.zeros(truth.image_size, dtype=torch.int64)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: Path(file).stem)
def test_losses_depend_on_every_parameter_that_learns(recipe: str) -> None:
    torch.manual_seed(0)
    cfg = load_config(recipe, ["MODEL.DEVICE", "cpu"])
    model = build_model_without_data(cfg).train()
    learns = {name for name, value in model.named_parameters() if value.requires_grad}
    with EventStorage():
        unused = find_unused_parameters(model, items(cfg))
    assert learns
    assert not learns.intersection(unused)
