"""Views merged, with a detector that finds bright rectangles exactly, if they are large enough."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from d2ext.config import get_cfg
from d2ext.errors import ConfigError
from d2ext.modeling.test_time_augmentation import with_tta
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, RotatedBoxes


class FindsBrightRectangles(nn.Module):
    """One detection for each connected bright area of at least `smallest` pixels a side."""

    def __init__(self, smallest=6, rotated=False):
        super().__init__()
        self.smallest, self.rotated, self.calls = smallest, rotated, 0

    def forward(self, batch):
        self.calls += len(batch)
        return [{"instances": self._find(**item)} for item in batch]

    def _find(self, image, height, width):
        bright = (image[0] > 127).numpy().astype(np.uint8)
        count, _labels, stats, _ = cv2.connectedComponentsWithStats(bright)
        areas = [i for i in range(1, count) if min(stats[i][2:4]) >= self.smallest]
        boxes = torch.tensor([[float(v) for v in stats[i][:4]] for i in areas]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = Instances(tuple(image.shape[1:]))
        found.pred_boxes = Boxes(boxes)
        found.scores = torch.linspace(0.9, 0.8, len(areas))
        found.pred_classes = torch.zeros(len(areas), dtype=torch.int64)
        found = detector_postprocess(found, height, width)
        scaled = nn.functional.interpolate(image[None].float(), (height, width))[0, 0] > 127
        found.pred_masks = torch.zeros((len(found), height, width), dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(
            found.pred_masks, found.pred_boxes.tensor.round().int().tolist(), strict=True
        ):
            mask[y0:y1, x0:x1] = scaled[y0:y1, x0:x1]
        if self.rotated:
            x0, y0, x1, y1 = found.pred_boxes.tensor.unbind(1)
            parts = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0 * x0 + 10]
            found.pred_boxes = RotatedBoxes(torch.stack(parts, dim=1))
            found.remove("pred_masks")
        return found


def item(tmp_path, *boxes, height=200, width=300):
    image = np.zeros((height, width, 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 255
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, image)
    shrunk = torch.zeros(3, 8, 12)  # what a loader may have made of it
    return {"file_name": path, "height": height, "width": width, "image": shrunk}


def config(*options):
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.MIN_SIZE_TEST", 100, "INPUT.MAX_SIZE_TEST", 1000, *options])
    return cfg


SLICED = ["TEST.SLICE_SIZE", 100, "TEST.SLICE_OVERLAP", 0.3]
MIRRORED = ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (100, 200), "TEST.AUG.MAX_SIZE", 999]


def boxes_of(output):
    return sorted(output[0]["instances"].pred_boxes.tensor.round().int().tolist())


def test_by_default_the_model_is_as_it_was():
    model = FindsBrightRectangles()
    assert with_tta(config(), model) is model


def test_slices_find_what_is_too_small_in_the_whole_image(tmp_path):
    small, large = [20, 20, 28, 28], [30, 60, 250, 180]
    given = item(tmp_path, small, large)
    whole = with_tta(config("TEST.SLICE_SIZE", 1000), FindsBrightRectangles())([given])
    assert boxes_of(whole) == [large]
    assert boxes_of(with_tta(config(*SLICED), FindsBrightRectangles())([given])) == [small, large]


def test_what_a_slice_cuts_is_left_to_the_others(tmp_path):
    given = item(tmp_path, [90, 40, 102, 52], [85, 90, 100, 118])
    found = with_tta(config(*SLICED), FindsBrightRectangles())([given])
    assert boxes_of(found) == [[85, 90, 100, 118], [90, 40, 102, 52]]


def test_mirrored_views_agree_with_plain_ones(tmp_path):
    given = item(tmp_path, [20, 30, 60, 90], [200, 100, 290, 180])
    model = FindsBrightRectangles()
    found = with_tta(config(*MIRRORED), model)([given])
    assert boxes_of(found) == [[20, 30, 60, 90], [200, 100, 290, 180]]
    assert model.calls == 4


def test_masks_lie_on_their_objects(tmp_path):
    given = item(tmp_path, [20, 20, 28, 28], [200, 100, 290, 180])
    options = [*SLICED, "TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (100,)]
    found = with_tta(config(*options), FindsBrightRectangles())([given])[0]["instances"]
    assert found.pred_masks.shape == (2, 200, 300)
    for mask, box in zip(found.pred_masks, found.pred_boxes.tensor.round().int(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        x0, y0, x1, y1 = box.tolist()
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose([int(v) for v in extent], [x0, y0, x1, y1], atol=2)


def test_rotated_boxes_are_merged_and_turn_in_a_mirror(tmp_path):
    given = item(tmp_path, [20, 30, 60, 90], [200, 100, 290, 180])
    found = with_tta(config(*MIRRORED), FindsBrightRectangles(rotated=True))([given])
    boxes = found[0]["instances"].pred_boxes
    assert isinstance(boxes, RotatedBoxes)
    # The same place at 10 and, from the mirror, -10 degrees: more than half in common.
    assert len(boxes) == 2
    assert set(boxes.tensor[:, 4].abs().round().tolist()) == {10}


def test_as_many_are_kept_as_the_config_says(tmp_path):
    given = item(tmp_path, *([x, 20, x + 10, 40] for x in range(10, 280, 20)))
    options = [*SLICED, "TEST.DETECTIONS_PER_IMAGE", 3]
    found = with_tta(config(*options), FindsBrightRectangles(smallest=2))([given])
    assert len(found[0]["instances"]) == 3


def test_an_image_without_objects_gives_none(tmp_path):
    assert boxes_of(with_tta(config(*SLICED), FindsBrightRectangles())([item(tmp_path)])) == []


def test_images_without_a_file_are_taken_as_they_are(tmp_path):
    pixels = torch.zeros(3, 200, 300)
    pixels[:, 30:90, 20:60] = 255
    given = {"image": pixels, "height": 200, "width": 300}
    assert boxes_of(with_tta(config(*MIRRORED), FindsBrightRectangles())([given])) == [
        [20, 30, 60, 90]
    ]


def test_what_cannot_be_merged_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not keypoints"):
        with_tta(config(*SLICED, "MODEL.KEYPOINT_ON", True), FindsBrightRectangles())
    upside_down = with_tta(
        config(*MIRRORED, "TEST.AUG.VERTICAL_FLIP", True), FindsBrightRectangles()
    )
    with pytest.raises(ConfigError, match="models of semantic masks"):
        upside_down([item(tmp_path)])
    segments = with_tta(config(*SLICED), SaysSegments())
    with pytest.raises(ConfigError, match="objects or semantic masks"):
        segments([item(tmp_path)])


class SaysSegments(nn.Module):
    def forward(self, batch):
        return [{"panoptic_seg": None}]


class ScoresBrightness(nn.Module):
    """Semantic scores: darkness and brightness of each pixel; a mirrored image gives others."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        (item,) = batch
        image = item["image"][None, :1].float()
        bright = nn.functional.interpolate(image, (item["height"], item["width"]))[0] / 255
        return [{"sem_seg": torch.cat([self.calls - bright, bright])}]


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (MIRRORED, 4),
        (SLICED, 13),
        ([*MIRRORED, "TEST.AUG.FLIP", False], 2),
        ([*MIRRORED, "TEST.AUG.VERTICAL_FLIP", True], 8),
    ],
)
def test_scores_of_semantic_masks_are_averaged_where_they_belong(tmp_path, options, calls):
    model = ScoresBrightness()
    given = item(tmp_path, (20, 30, 60, 90))
    (output,) = with_tta(config(*options), model)([given])
    dark, bright = output["sem_seg"]
    assert (bright.shape, model.calls) == ((200, 300), calls)
    expected = torch.zeros(200, 300)
    expected[30:90, 20:60] = 1
    inner = torch.ones(200, 300, dtype=torch.bool)
    inner[26:94, 16:64] = False
    inner[34:86, 24:56] = True
    assert torch.allclose(bright[inner], expected[inner], atol=0.02)
    if options is MIRRORED:
        assert (dark + bright).mean() == pytest.approx((1 + 2 + 3 + 4) / 4)
