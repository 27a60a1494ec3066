import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detectron2.data.datasets.coco import load_coco_json
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.evaluation.coco_evaluation import _load_coco
from detectron2.structures import BoxMode
from detectron2.structures.masks import polygons_to_bitmask, rasterize_polygons_within_box
from detectron2.utils.generic_mask import GenericMask
from detectron2.utils.run_lengths import check_polygons, check_run_lengths, decode_run_lengths

BROKEN = [
    {"size": [0, 0], "counts": []},
    {"size": [0, 0], "counts": ""},
    {"size": [1 << 20, 1 << 20], "counts": "0"},
    {"size": [24, 32], "counts": [100, 20]},
    {"size": [24, 32], "counts": [100, 20, 649]},
    {"size": [24, 32], "counts": [100, -20, 688]},
    {"size": [24, 32], "counts": [1 << 70]},
    {"size": [24, 32], "counts": "01g0d00b0"},
    {"size": [24, 32], "counts": "PPPPPPPPPPPPPPPPPPPP0"},
    {"size": [24, 32], "counts": "o"},
    {"size": [24, 32], "counts": "é"},
    {"size": [24, 32], "counts": 3},
    {"size": [24, 32], "counts": [[1], [2, 3]]},
    {"size": [24, 32]},
    {"size": 24, "counts": "0"},
    {"size": ["a", "b"], "counts": "0"},
]
FAR = [[0.0, 0.0, 1e9, 0.0, 1e9, 1e9]]


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_valid_run_lengths_are_decoded_as_pycocotools_does(density):
    mask = (np.random.default_rng(0).random((97, 1203)) < density).astype(np.uint8)
    rle = coco_mask.encode(np.asfortranarray(mask))
    text = {**rle, "counts": rle["counts"].decode()}
    changes = np.flatnonzero(np.diff(mask.T.reshape(-1), prepend=0)).tolist()
    runs = np.diff([0, *changes, mask.size]).tolist()
    for given in (rle, text, {"size": [97, 1203], "counts": runs}):
        np.testing.assert_array_equal(decode_run_lengths(given), mask)


@pytest.mark.parametrize("rle", BROKEN)
def test_broken_run_lengths_are_refused_wherever_they_are_read(rle, tmp_path):
    with pytest.raises(ValueError, match="broken run lengths"):
        check_run_lengths(rle)
    with pytest.raises(ValueError, match="broken run lengths"):
        GenericMask(rle, 24, 32)
    annotation = {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    with pytest.raises(ValueError, match="broken run lengths"):
        annotations_to_instances([{**annotation, "segmentation": rle}], (24, 32), "bitmask")
    file = coco_file(tmp_path, rle)
    with pytest.raises(ValueError, match=r"nnotation 7 .*broken run lengths"):
        load_coco_json(file, str(tmp_path))
    with pytest.raises(ValueError, match="annotation 7: broken run lengths"):
        _load_coco(file)


@pytest.mark.parametrize("polygon", [FAR[0], [0, 0, float("nan"), 1, 2, 2], [0, 0, 1e400, 1, 2, 2]])
def test_points_far_away_are_never_drawn(polygon, tmp_path):
    for draw in (
        lambda: check_polygons([polygon]),
        lambda: polygons_to_bitmask([np.array(polygon)], 24, 32),
        lambda: GenericMask([polygon], 24, 32).mask,
        lambda: _load_coco(coco_file(tmp_path, [polygon])),
    ):
        with pytest.raises(ValueError, match="not finite or far outside"):
            draw()


def test_a_polygon_seen_from_a_tiny_box_is_drawn():
    square = [np.array([0.0, 0, 8000, 0, 8000, 8000, 0, 8000])]
    mask = rasterize_polygons_within_box(square, np.array([4000.0, 4000, 4000.01, 4000.01]), 28)
    assert mask.all()


def coco_file(folder, segmentation):
    annotation = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}],
        "annotations": [{**annotation, "segmentation": segmentation}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = folder / "train.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)
