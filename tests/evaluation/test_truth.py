"""COCO files of others, which d2ext has not cleaned, where detections are compared with them."""

import json

import pytest

from d2ext.config import get_cfg
from d2ext.errors import DataError
from d2ext.evaluation import build_evaluator
from d2ext.evaluation.boundary_iou import boundary_average_precision
from d2ext.evaluation.precision_recall import measure
from d2ext.evaluation.truth import read_truth
from detectron2.data import DatasetCatalog, MetadataCatalog

WIDTH, HEIGHT = 8, 4


def write(path, annotation=(), image=()):
    """Write a file with one image and one annotation, and return its path."""
    base = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 0, 2, 4]}
    size = {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
    document = {
        "images": [size | dict(image)],
        "annotations": [base | dict(annotation)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path.write_text(json.dumps(document))
    return str(path)


HOSTILE = {
    "far polygon": {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
    "short polygon": {"segmentation": [[0, 0, 1, 1]]},
    "text in a polygon": {"segmentation": [[0, 0, "x", 0, 1, 1]]},
    "runs of no image": {"segmentation": {"size": [0, 0], "counts": [0]}},
    "runs too short": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2]}},
    "runs too long": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [8, 1 << 40]}},
    "negative runs": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 33]}},
    "runs of another size": {"segmentation": {"size": [1 << 20, 1 << 20], "counts": [1 << 40]}},
    "no letters of runs": {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "\x7f\x00"}},
    "runs without counts": {"segmentation": {"size": [HEIGHT, WIDTH]}},
    "no image": {"image_id": [7]},
    "unknown image": {"image_id": 8},
    "category as a list": {"category_id": [1]},
    "box of text": {"bbox": ["a", 0, 1, 1]},
    "huge number": {"bbox": [10**400, 0, 1, 1]},
    "huge area": {"area": 10**400},
    "no id": {"id": None},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_annotation_that_cannot_be_measured_is_named(tmp_path, name):
    file = write(tmp_path / "truth.json", HOSTILE[name])
    found = [{"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [2, 0, 2, 4]}]
    masks = [item | {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "8878"}} for item in found]
    for use in (
        lambda: measure(file, found, "bbox"),
        lambda: measure(file, masks, "segm"),
        lambda: boundary_average_precision(file, masks),
    ):
        with pytest.raises(DataError, match=r"truth\.json: annotation (1|None): .* remove it"):
            use()


@pytest.mark.parametrize("counts", [[8, 8, 16], "88`0"])
def test_run_lengths_of_others_are_measured(tmp_path, counts):
    mask = {"size": [HEIGHT, WIDTH], "counts": counts}
    file = write(tmp_path / "truth.json", {"segmentation": mask})
    found = {"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [2, 0, 2, 4]}
    found["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": "88`0"}
    assert measure(file, [found], "segm").table()[0, 0] == pytest.approx(100)
    assert measure(file, [found], "bbox").table()[0, 0] == pytest.approx(100)
    assert boundary_average_precision(file, [found])["AP"] == pytest.approx(100)


def test_missing_areas_and_crowd_flags_are_filled_in(tmp_path):
    [item] = read_truth(write(tmp_path / "a.json"))["annotations"]
    assert (item["area"], item["iscrowd"]) == (8, 0)


def test_a_mask_of_an_image_too_large_is_refused(tmp_path):
    side = 1 << 20
    mask = {"size": [side, side], "counts": [side * side]}
    file = write(tmp_path / "a.json", {"segmentation": mask}, {"width": side, "height": side})
    with pytest.raises(DataError, match="run lengths"):
        read_truth(file)


def test_a_file_that_d2ext_has_not_registered_is_validated_before_it_evaluates(tmp_path):
    name = "a set of others"
    file = write(tmp_path / "truth.json", HOSTILE["runs too long"])
    DatasetCatalog.register(name, list)
    try:
        metadata = MetadataCatalog.get(name)
        metadata.set(json_file=file, evaluator_type="coco", thing_classes=["cat"])
        with pytest.raises(DataError, match=r"truth\.json: annotation 1: broken run lengths"):
            build_evaluator(get_cfg(), name, tmp_path / "out")
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
