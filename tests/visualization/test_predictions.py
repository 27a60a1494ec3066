import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.visualization.predictions import save_predictions, score_threshold, spread
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

RED, BLUE = (255, 0, 0), (0, 0, 255)
NAME = "set_for_test_predictions"


@pytest.fixture
def records(tmp_path):
    """Two grey images with a red object on the left of the first, registered as NAME."""
    records = []
    for i in range(2):
        path = tmp_path / f"ü {i}.png"
        Image.new("RGB", (80, 60), (128, 128, 128)).save(path)
        records.append({"file_name": str(path), "image_id": i + 1, "width": 80, "height": 60})
        records[i]["annotations"] = []
    box = {"bbox": [5, 20, 30, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    records[0]["annotations"] = [box]
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(
        thing_classes=["a", "b"],
        thing_colors=[RED, BLUE],
        thing_dataset_id_to_contiguous_id={10: 0, 20: 1},
    )
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def picture(tmp_path, results, count=16):
    (tmp_path / "results.json").write_text(json.dumps(results))
    save_predictions(NAME, tmp_path / "results.json", tmp_path / "out" / "p.png", count)
    return np.asarray(Image.open(tmp_path / "out" / "p.png"))


def columns_of(image, color):
    """Columns below the header in which `color` is drawn, as shares of the width."""
    places = np.flatnonzero((image[130:] == color).all(-1).any(0)) / image.shape[1]
    return places.min(), places.max()


def test_ground_truth_is_left_and_what_was_found_right(records, tmp_path):
    result = {"image_id": 1, "category_id": 20, "bbox": [5, 20, 30, 30], "score": 0.8}
    image = picture(tmp_path, [result])
    red, blue = columns_of(image, RED), columns_of(image, BLUE)
    assert red[1] < 0.25 < blue[0] < blue[1] < 0.5
    # The same box stands at the same place of its image.
    assert blue[0] - red[0] == pytest.approx(blue[1] - red[1], abs=0.05)


def test_no_more_predictions_than_objects_are_drawn_the_best_first(records, tmp_path):
    sure = {"image_id": 1, "category_id": 10, "bbox": [5, 20, 30, 30], "score": 0.8}
    unsure = {"image_id": 1, "category_id": 20, "bbox": [5, 20, 30, 30], "score": 0.2}
    image = picture(tmp_path, [unsure, sure])
    assert columns_of(image, RED)[1] > 0.25
    assert not (image[130:] == BLUE).all(-1).any()


def test_a_model_without_detections_has_a_picture(records, tmp_path):
    assert columns_of(picture(tmp_path, []), RED)[1] < 0.25


def test_the_number_of_images_is_limited(records, tmp_path):
    one = picture(tmp_path, [], count=1)
    assert columns_of(one, (128, 128, 128))[1] > 0.9  # a single pair fills the width
    assert not (one == RED).all(-1).any()  # it is the second image, which is empty


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(10, 2, [2, 7]), (3, 16, [0, 1, 2]), (1, 1, [0]), (100, 3, [16, 50, 83]), (0, 4, [])],
)
def test_images_are_spread_evenly(total, count, expected):
    assert spread(total, count) == expected


def test_as_many_predictions_reach_the_threshold_as_there_are_objects():
    results = [{"score": s} for s in (0.1, 0.9, 0.5, 0.3)]
    assert score_threshold(results, 2) == 0.5
    assert score_threshold(results, 0) == 0.9
    assert score_threshold(results, 9) == 0.0


def test_ground_truth_masks_are_drawn_beside_predicted_masks_only(records, tmp_path):
    records[0]["annotations"][0]["segmentation"] = [[5, 20, 35, 20, 35, 50, 5, 50]]
    result = {"image_id": 1, "category_id": 20, "bbox": [5, 20, 30, 30], "score": 0.8}

    def tinted(image):
        return ((image[:, :, 0] > 150) & (image[:, :, 1] < 100) & (image[:, :, 1] > 60)).sum()

    assert tinted(picture(tmp_path, [result])) < 1000
    runs = coco_mask.frPyObjects([[5, 20, 35, 20, 35, 50, 5, 50]], 60, 80)[0]
    result["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}
    assert tinted(picture(tmp_path, [result])) > 10000
