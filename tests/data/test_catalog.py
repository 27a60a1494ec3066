"""Data sets of any format, as Detectron2's catalog gives them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from d2ext.data import dataset_stats, write_dropped
from d2ext.data.catalog import DatasetSpec, describe_datasets, register_dataset, replace_datasets
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from tests.helpers.dataset_folders import save_image, voc_box, voc_xml, write

DOG, CAT = (voc_box(name, "3 4 12 13") for name in ("dog", "cat"))


def voc(folder, objects=DOG):
    save_image(folder / "a.png")
    write(folder / "a.xml", voc_xml(objects))
    return DatasetSpec(str(folder))


def dota(folder):
    save_image(folder / "images" / "a.png")
    write(folder / "labelTxt" / "a.txt", "4 4 12 4 12 8 4 8 ship 0\n")
    return DatasetSpec(str(folder))


def test_boxes_are_read_and_measured_by_a_coco_file_of_the_cache(tmp_path, own_cache):
    register_dataset("mine", voc(tmp_path / "voc"))
    (image,) = DatasetCatalog.get("mine")
    metadata = MetadataCatalog.get("mine")
    assert image["file_name"] == str(tmp_path / "voc" / "a.png")
    assert image["annotations"][0]["bbox"] == [2.0, 3.0, 10.0, 10.0]
    assert metadata.thing_classes == ["dog"]
    assert metadata.evaluator_type == "coco"
    assert metadata.json_file.startswith(str(own_cache))


def test_rotated_boxes_say_so(tmp_path):
    register_dataset("mine", dota(tmp_path / "dota"))
    (image,) = DatasetCatalog.get("mine")
    assert image["annotations"][0]["bbox_mode"] == BoxMode.XYWHA_ABS
    assert image["annotations"][0]["bbox"] == pytest.approx([8, 6, 8, 4, 0])
    assert MetadataCatalog.get("mine").evaluator_type == "coco_rotated"
    stats = dataset_stats(["mine"])
    assert stats.object_sizes.tolist() == [[8, 4]]
    assert stats.annotated == {"boxes"}


def test_semantic_masks_have_stuff_classes(tmp_path):
    save_image(tmp_path / "images" / "a.png", 2, 2)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.array([[0, 1], [1, 255]], np.uint8)).save(tmp_path / "masks" / "a.png")
    write(tmp_path / "classes.txt", "road\nroof\n")
    register_dataset("mine", DatasetSpec(str(tmp_path)))
    (image,) = DatasetCatalog.get("mine")
    assert image["sem_seg_file_name"] == str(tmp_path / "masks" / "a.png")
    assert MetadataCatalog.get("mine").stuff_classes == ["road", "roof"]
    stats = dataset_stats(["mine"])
    assert stats.class_names == stats.stuff_names == ("road", "roof")
    assert (stats.annotated, stats.empty_images) == ({"semantic masks"}, 0)


def test_what_was_recognised_is_one_line(tmp_path):
    register_dataset("mine", voc(tmp_path / "voc"))
    first = describe_datasets(["mine"])[0]
    assert first == f"{tmp_path / 'voc'}: Pascal VOC, 1 images, 1 boxes, 1 classes: dog"


def test_what_could_not_be_read_and_what_was_dropped_are_listed(tmp_path):
    objects = DOG + DOG * 2 + voc_box("dog", "9 9 2 2") + "<object><name>x</name></object>"
    register_dataset("mine", voc(tmp_path / "voc", objects))
    DatasetCatalog.get("mine")
    DatasetCatalog.get("mine")
    (file,) = write_dropped(tmp_path / "out")
    listed = json.loads(file.read_text(encoding="utf-8"))
    assert [issue["code"] for issue in listed] == ["box-empty", "record-broken"]
    assert "object without a box" in listed[1]["detail"]


def test_a_new_run_does_not_list_what_an_earlier_one_dropped(tmp_path):
    register_dataset("mine", voc(tmp_path / "voc", DOG * 2 + "<object><name>x</name></object>"))
    DatasetCatalog.get("mine")
    assert write_dropped(tmp_path / "first")
    replace_datasets([])
    assert write_dropped(tmp_path / "second") == []


def test_images_without_a_file_are_left_out(tmp_path):
    entry = voc(tmp_path / "voc")
    save_image(tmp_path / "voc" / "c.png")
    for name in ("b", "c"):
        write(tmp_path / "voc" / f"{name}.xml", voc_xml(voc_box("dog", "1 1 9 9"), f"{name}.png"))
    register_dataset("mine", entry)
    assert len(DatasetCatalog.get("mine")) == 2


def test_a_data_set_without_any_image_file_is_refused(tmp_path):
    write(tmp_path / "voc" / "b.xml", voc_xml(voc_box("dog", "1 1 9 9"), "b.png"))
    register_dataset("mine", DatasetSpec(str(tmp_path / "voc")))
    with pytest.raises(DataError, match=r"none of its 1 images is there, such as .*b\.png"):
        DatasetCatalog.get("mine")


def test_other_classes_replace_the_registration(tmp_path):
    entry = voc(tmp_path / "voc", DOG + CAT)
    register_dataset("mine", entry)
    assert [o["category_id"] for o in DatasetCatalog.get("mine")[0]["annotations"]] == [1, 0]
    register_dataset("mine", replace(entry, classes=("dog", "cat")))
    assert [o["category_id"] for o in DatasetCatalog.get("mine")[0]["annotations"]] == [0, 1]
    assert MetadataCatalog.get("mine").thing_classes == ["dog", "cat"]


def test_objects_of_classes_that_are_not_asked_for_are_left_out(tmp_path):
    entry = voc(tmp_path / "voc", DOG + CAT)
    register_dataset("mine", replace(entry, classes=("cat",)))
    assert [o["category_id"] for o in DatasetCatalog.get("mine")[0]["annotations"]] == [0]


def test_a_coco_files_images_are_found_where_they_are_said_to_be(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    image = {"id": 1, "file_name": "D:\\set\\a.png", "width": 32, "height": 24}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "dog"}]}
    file = write(tmp_path / "all.json", json.dumps(content))
    register_dataset("mine", DatasetSpec(str(file), str(tmp_path / "images")))
    (found,) = DatasetCatalog.get("mine")
    assert found["file_name"] == str(tmp_path / "images" / "a.png")
