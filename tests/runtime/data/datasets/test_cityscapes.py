import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from detectron2.data import MetadataCatalog
from detectron2.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic
from detectron2.structures import BoxMode

PERSON, CAR = 0, 2


def rectangle(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


@pytest.fixture
def write(tmp_path):
    """Write one image of the city of Bonn, its polygons and its label images."""

    def write(objects=(), regions=()):
        images, truth = tmp_path / "leftImg8bit/train/bonn", tmp_path / "gtFine/train/bonn"
        images.mkdir(parents=True)
        truth.mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(images / "bonn_0_1_leftImg8bit.png")
        outlines = [{"label": label, "polygon": polygon} for label, polygon in objects]
        content = {"imgHeight": 30, "imgWidth": 40, "objects": outlines}
        (truth / "bonn_0_1_gtFine_polygons.json").write_text(json.dumps(content))
        pixels = np.zeros((30, 40), dtype=np.uint16)
        for value, (left, top, right, bottom) in regions:
            pixels[top:bottom, left:right] = value
        Image.fromarray(pixels).save(truth / "bonn_0_1_gtFine_instanceIds.png")
        for kind in ("labelIds", "labelTrainIds"):
            (truth / f"bonn_0_1_gtFine_{kind}.png").touch()
        return str(images.parent), str(truth.parent)

    return write


def load(folders, **options):
    try:
        return load_cityscapes_instances(*folders, **options)
    except ModuleNotFoundError as error:
        pytest.skip(f"the official package needs {error.name}")


def areas(annotations):
    """Return the area of each annotation's polygon outlines in pixels."""
    rles = [
        mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], 60, 80))
        for annotation in annotations
    ]
    return mask_util.area(rles).tolist()


def test_polygons_run_around_their_pixels(write):
    (image,) = load(write([("car", rectangle(2, 2, 12, 12))]))
    assert (image["image_id"], image["height"], image["width"]) == (
        "bonn_0_1_leftImg8bit.png",
        30,
        40,
    )
    (car,) = image["annotations"]
    assert (car["category_id"], car["iscrowd"], car["bbox_mode"]) == (CAR, False, BoxMode.XYXY_ABS)
    assert car["bbox"] == (2.0, 2.0, 13.0, 13.0)
    (outline,) = car["segmentation"]
    # Corners are rounded by three points each, and the first point closes the outline.
    assert len(outline) == 2 * (4 * 5 + 1)
    assert outline[:2] == outline[-2:]
    assert areas([car]) == [121]


def test_the_foremost_object_comes_first_and_hides_those_behind(write):
    person, car = load(
        write([("car", rectangle(2, 2, 12, 12)), ("person", rectangle(8, 8, 20, 20))])
    )[0]["annotations"]
    assert (person["category_id"], car["category_id"]) == (PERSON, CAR)
    assert areas([person, car]) == [13 * 13, 11 * 11 - 5 * 5]


@pytest.mark.parametrize(
    ("label", "hides"),
    [("pole", True), ("caravan", True), ("out of roi", True), ("license plate", False)],
)
def test_all_labels_but_licence_plates_hide_what_is_behind(write, label, hides):
    objects = [("car", rectangle(2, 2, 12, 12)), (label, rectangle(0, 0, 5, 29))]
    (car,) = load(write(objects))[0]["annotations"]
    assert car["bbox"][0] == (6 if hides else 2)


def test_an_object_split_by_occlusion_has_two_polygons(write):
    objects = [("person", rectangle(8, 8, 20, 20)), ("pole", rectangle(10, 0, 12, 29))]
    (person,) = load(write(objects))[0]["annotations"]
    assert len(person["segmentation"]) == 2


def test_hidden_objects_and_classes_without_instances_are_dropped(write):
    objects = [("car", rectangle(5, 5, 9, 9)), ("wall", rectangle(0, 0, 30, 20))]
    assert load(write(objects))[0]["annotations"] == []


def test_a_group_is_a_crowd(write):
    objects = [("polegroup", rectangle(0, 0, 1, 1)), ("cargroup", rectangle(3, 3, 9, 9))]
    (group,) = load(write(objects))[0]["annotations"]
    assert (group["category_id"], group["iscrowd"]) == (CAR, True)


def test_an_error_names_an_unknown_label(write):
    with pytest.raises(KeyError, match="ufo"):
        load(write([("ufo", rectangle(0, 0, 1, 1))]))


def test_instance_images_number_objects_within_their_category(write):
    regions = [(7, (0, 0, 40, 30)), (26000, (2, 2, 12, 12)), (24001, (8, 8, 20, 20))]
    regions += [(26, (25, 5, 35, 15)), (29001, (1, 20, 10, 28))]
    folders = write(regions=regions)
    group, person, car = load(folders, from_json=False)[0]["annotations"]
    assert (group["category_id"], bool(group["iscrowd"])) == (CAR, True)
    assert (person["category_id"], bool(person["iscrowd"])) == (PERSON, False)
    assert [int(value) for value in car["bbox"]] == [2, 2, 11, 11]
    masks = load(folders, from_json=False, to_polygons=False)[0]["annotations"]
    assert mask_util.area([m["segmentation"] for m in masks]).tolist() == [100, 144, 84]


def test_slivers_of_an_instance_image_are_dropped(write):
    regions = [(26000, (5, 5, 6, 6)), (26001, (0, 0, 1, 3)), (26002, (20, 20, 22, 22))]
    regions += [(26002, (30, 20, 31, 21))]
    (car,) = load(write(regions=regions), from_json=False)[0]["annotations"]
    assert [int(value) for value in car["bbox"]] == [20, 20, 30, 21]
    assert len(car["segmentation"]) == 1


def test_polygons_with_to_polygons_false_are_refused(write):
    with pytest.raises(AssertionError, match="polygon"):
        load(write(), from_json=True, to_polygons=False)


def test_semantic_labels_are_paired_with_images(write):
    (image,) = load_cityscapes_semantic(*write())
    assert image["sem_seg_file_name"].endswith(
        "gtFine/train/bonn/bonn_0_1_gtFine_labelTrainIds.png"
    )
    assert (image["height"], image["width"]) == (30, 40)


def test_missing_label_images_raise_an_error_with_the_remedy(write, tmp_path):
    folders = write()
    (tmp_path / "gtFine/train/bonn/bonn_0_1_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(AssertionError, match="createTrainIdLabelImgs"):
        load_cityscapes_semantic(*folders)


def test_panoptic_segments_are_numbered_as_semantic_labels(write, tmp_path):
    image_dir, _ = write()
    labels = tmp_path / "gtFine/panoptic/bonn_0_1_gtFine_panoptic.png"
    labels.parent.mkdir()
    labels.touch()
    segments = [{"id": 7, "category_id": 7}, {"id": 26000, "category_id": 26}]
    annotation = {"image_id": "bonn_0_1", "file_name": labels.name, "segments_info": segments}
    gt_json = tmp_path / "panoptic.json"
    gt_json.write_text(json.dumps({"annotations": [annotation]}))
    meta = MetadataCatalog.get("cityscapes_fine_panoptic_train").as_dict()
    (image,) = load_cityscapes_panoptic(image_dir, str(labels.parent), str(gt_json), meta)
    assert image["image_id"] == "bonn_0_1"
    assert image["pan_seg_file_name"] == str(labels)
    assert image["sem_seg_file_name"].endswith(
        "gtFine/train/bonn/bonn_0_1_gtFine_labelTrainIds.png"
    )
    assert [segment["category_id"] for segment in image["segments_info"]] == [0, 13]


def test_missing_panoptic_annotations_raise_an_error_with_the_remedy(write, tmp_path):
    with pytest.raises(AssertionError, match="createPanopticImgs"):
        load_cityscapes_panoptic(write()[0], "labels", str(tmp_path / "none.json"), {})
