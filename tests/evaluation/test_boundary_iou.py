"""Boundary IoU: how close outlines are."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from d2ext.config import get_cfg
from d2ext.evaluation import build_evaluator
from d2ext.evaluation.boundary_iou import boundary_average_precision, mask_boundary
from detectron2.data import DatasetCatalog, MetadataCatalog

SIDE = 100  # the diagonal is 141, so boundaries are 3 pixels wide


def square(margin: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[margin : SIDE - margin, margin : SIDE - margin] = 1
    return mask


def runs(mask: np.ndarray) -> dict:
    found = coco_mask.encode(np.asfortranarray(mask))
    return {"size": found["size"], "counts": found["counts"].decode()}


@pytest.fixture
def truth(tmp_path):
    """One image with one square of 60 pixels, as a polygon."""
    annotation = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 3600}
    annotation |= {"bbox": [20, 20, 60, 60], "segmentation": [[20, 20, 80, 20, 80, 80, 20, 80]]}
    document = {
        "info": {},
        "images": [{"id": 7, "file_name": "a.jpg", "height": SIDE, "width": SIDE}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "box"}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    return str(path)


def result(margin: int) -> list[dict]:
    return [
        {"image_id": 7, "category_id": 1, "score": 0.9, "segmentation": runs(square(margin))},
    ]


def test_the_boundary_is_a_ring_inside_the_mask():
    boundary = mask_boundary(square(20))
    assert boundary.sum() == 60 * 60 - 54 * 54
    assert boundary[20:23, 20:80].all()
    assert not boundary[23:77, 23:77].any()


def test_the_border_of_the_image_is_a_boundary_too():
    assert mask_boundary(square(0)).sum() == 100 * 100 - 94 * 94


def test_a_perfect_mask_has_full_ap(truth):
    found = boundary_average_precision(truth, result(20))
    assert found["AP"] == pytest.approx(100)
    assert np.isnan(found["APl"]) or found["APl"] == pytest.approx(100)


def test_an_outline_two_pixels_off_matches_by_mask_but_not_by_boundary(truth):
    # Mask IoU: 56 * 56 / 3600 = 0.87. Boundary IoU: one ring of 3 in common, of 5: 0.2.
    assert boundary_average_precision(truth, result(22))["AP"] == 0


def test_one_pixel_off_matches_below_the_boundary_iou(truth):
    rings = [mask_boundary(square(margin)).astype(bool) for margin in (20, 21)]
    iou = (rings[0] & rings[1]).sum() / (rings[0] | rings[1]).sum()
    assert 0.45 < iou < 0.55
    expected = 10.0 * (iou >= 0.5)
    assert boundary_average_precision(truth, result(21))["AP"] == pytest.approx(expected)


def test_the_option_adds_boundary_metrics(truth, tmp_path):
    name = "boundary_iou_option"
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(
        json_file=truth, thing_classes=["box"], thing_dataset_id_to_contiguous_id={1: 0}
    )
    try:
        cfg = get_cfg()
        cfg.TEST.BOUNDARY_IOU = True
        evaluator = build_evaluator(cfg, name, tmp_path / "results")
        evaluator.reset()
        evaluator.process([{"image_id": 7}], [{"instances": _instances(22)}])
        results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["segm"]["AP"] > 60
    assert results["boundary"]["AP"] == 0


def _instances(margin: int):
    import torch

    from detectron2.structures import Boxes, Instances

    mask = torch.from_numpy(square(margin))[None].bool()
    box = Boxes(torch.tensor([[margin, margin, SIDE - margin, SIDE - margin]]).float())
    classes, scores = torch.tensor([0]), torch.tensor([0.9])
    fields = {"pred_masks": mask, "pred_boxes": box, "pred_classes": classes, "scores": scores}
    return Instances((SIDE, SIDE), **fields)
