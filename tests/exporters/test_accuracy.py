"""AP of detectors of single images, of their masks, too."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from d2ext.data.catalog import DatasetSpec, register_dataset
from d2ext.exporters.accuracy import average_precision
from detectron2.structures import Boxes, Instances
from tests.helpers.catalog import free_names
from tests.helpers.dataset_folders import save_image

BOX = [4.0, 6.0, 14.0, 12.0]  # XYXY
NAME = "test_accuracy"


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path) -> Iterator[None]:
    """Register two images with one square each."""
    x0, y0, x1, y1 = BOX
    outline = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    images, annotations = [], []
    for number in (1, 2):
        save_image(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 24})
        box = [x0, y0, x1 - x0, y1 - y0]
        about = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        annotations.append(about | {"bbox": box, "area": 60.0, "segmentation": outline})
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "all.json").write_text(json.dumps(whole))
    with free_names():
        register_dataset(NAME, DatasetSpec(path=str(tmp_path / "all.json"), images=str(tmp_path)))
        yield


def detect(masks: bool, wrong: bool = False) -> Instances:
    found = Instances((24, 32), pred_boxes=Boxes(torch.tensor([BOX])), scores=torch.tensor([0.9]))
    found.pred_classes = torch.tensor([0])
    if masks:
        found.pred_masks = torch.zeros(1, 24, 32, dtype=torch.bool)
        found.pred_masks[0, 6:12, 4 : 7 if wrong else 14] = True
    return found


def test_boxes_alone_have_one_task() -> None:
    assert set(average_precision(lambda image: detect(masks=False), NAME)) == {"bbox"}


def test_masks_have_an_ap_of_their_own() -> None:
    found = average_precision(lambda image: detect(masks=True), NAME)
    assert found["bbox"]["AP"] == pytest.approx(100)
    assert found["segm"]["AP"] == pytest.approx(100)
    wrong = average_precision(lambda image: detect(masks=True, wrong=True), NAME)
    assert (wrong["bbox"]["AP"], wrong["segm"]["AP"]) == (pytest.approx(100), 0)


def test_images_are_given_in_rgb_as_they_are_stored() -> None:
    seen: list[np.ndarray] = []
    average_precision(lambda image: (seen.append(image), detect(masks=False))[1], NAME)
    assert [image.shape for image in seen] == [(24, 32, 3)] * 2
