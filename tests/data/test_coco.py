"""What a COCO-format data set becomes: any ids, any names, any masks."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from d2ext.data import build_test_loader, build_train_loader, dataset_stats, register_coco
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances


def load(coco, name: str = "set_under_test") -> list[dict]:
    register_coco(name, coco.annotations, coco.images)
    return DatasetCatalog.get(name)


def test_a_sound_file_is_read_as_it_is(coco):
    dicts = load(coco)
    assert [len(item["annotations"]) for item in dicts] == [1, 1, 0]
    assert dicts[0]["annotations"][0]["bbox"] == [1, 2, 10, 12]
    assert MetadataCatalog.get("set_under_test").json_file == str(coco.annotations)


def test_category_ids_need_no_order_and_no_continuity(coco):
    coco.document["categories"] = [{"id": 900, "name": "dog"}, {"id": 7, "name": "cat"}]
    for item, category in zip(coco.document["annotations"], (7, 900), strict=True):
        item["category_id"] = category
    dicts = load(coco.write())
    assert dataset_stats(["set_under_test"]).class_names == ("cat", "dog")
    assert [item["annotations"][0]["category_id"] for item in dicts[:2]] == [0, 1]


def test_names_with_spaces_and_accents_work(coco):
    coco.add_image("Käfer sammlung/ein Bild ü.png")
    coco.add_box(4, [1, 1, 5, 5], category=2)
    coco.document["categories"][1]["name"] = "Käfer groß"
    target = coco.annotations.with_name("Anmerkungen für alle.json")
    target.write_text(json.dumps(coco.document, ensure_ascii=False), encoding="utf-8")
    register_coco("set_under_test", target, coco.images)
    image = DatasetCatalog.get("set_under_test")[3]
    assert Image.open(image["file_name"]).size == (32, 24)
    assert MetadataCatalog.get("set_under_test").thing_classes[1] == "Käfer groß"


def test_a_byte_order_mark_does_no_harm(coco):
    coco.annotations.write_text(json.dumps(coco.document), encoding="utf-8-sig")
    assert len(load(coco)) == 3


def test_images_in_subfolders_are_found(coco):
    coco.add_image("deep/er/d.png")
    assert load(coco.write())[3]["file_name"].endswith("d.png")


def test_polygons_and_both_kinds_of_rle_become_masks(coco, cfg):
    mask = np.zeros((24, 32), np.uint8, order="F")
    mask[5:9, 6:16] = 1
    packed = coco_mask.encode(mask)
    packed = {"size": packed["size"], "counts": packed["counts"].decode()}
    column = [5, 4, 15]  # of 24 rows: off, on, off
    plain = {"size": [24, 32], "counts": [6 * 24 + 5, *([4, 20] * 9), 4, 15 + 16 * 24]}
    polygon = [[6.0, 5.0, 16.0, 5.0, 16.0, 9.0, 6.0, 9.0]]
    assert sum(column) == 24
    coco.document["annotations"] = []
    for segmentation in (packed, plain, polygon):
        coco.add_box(1, [6, 5, 10, 4], segmentation=segmentation)
    item = load(coco.write())[0]
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT, cfg.INPUT.CROP.ENABLED = True, "bitmask", False
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (24,), "none"
    masks = DatasetMapper(cfg, is_train=True)(item)["instances"].gt_masks.tensor
    assert [int((m.numpy() != mask).sum()) for m in masks] == [0, 0, 0]


def test_crowd_regions_are_neither_trained_on_nor_counted(coco, cfg):
    coco.add_box(3, [1, 1, 20, 20], iscrowd=1)
    item = load(coco.write())[2]
    assert item["annotations"][0]["iscrowd"] == 1
    assert dataset_stats(["set_under_test"]).empty_images == 1
    assert len(DatasetMapper(cfg, is_train=True)(item)["instances"]) == 0


def test_images_turned_by_exif_are_loaded_upright(coco, cfg):
    pixels = Image.fromarray(np.arange(24 * 32, dtype=np.uint16).astype(np.uint8).reshape(24, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise is needed
    pixels.convert("RGB").save(coco.images / "turned.jpg", exif=exif)
    coco.document["images"].append({"id": 4, "file_name": "turned.jpg", "width": 24, "height": 32})
    coco.add_box(4, [2, 20, 10, 10])
    load(coco.write())
    cfg.DATASETS.TEST = ("set_under_test",)
    cfg.INPUT.MIN_SIZE_TEST = 24
    images = [batch[0] for batch in build_test_loader(cfg, "set_under_test")]
    assert images[3]["image"].shape == (3, 32, 24)


def test_loaders_are_picklable(coco):
    register_coco("set_under_test", coco.annotations, coco.images)
    copy = pickle.loads(pickle.dumps(DatasetCatalog["set_under_test"]))
    assert len(copy()) == 3


def test_a_file_that_was_changed_is_read_anew(coco):
    assert len(load(coco)) == 3
    coco.add_image("d.png")
    coco.write()
    assert len(DatasetCatalog.get("set_under_test")) == 4


def test_sets_registered_by_detectron2s_function_load_too(coco, cfg):
    register_coco_instances("users_own", {}, str(coco.annotations), str(coco.images))
    assert dataset_stats(["users_own"]).class_counts.tolist() == [1, 1]
    cfg.DATASETS.TRAIN = ("users_own",)
    assert len(next(iter(build_train_loader(cfg)))) == 2


@pytest.mark.parametrize("names", [("cat", "cow"), ("dog", "cat")])
def test_a_freed_name_can_be_given_to_other_classes(coco, names):
    load(coco)
    DatasetCatalog.remove("set_under_test")
    for category, name in zip(coco.document["categories"], names, strict=True):
        category["name"] = name
    load(coco.write())
    assert dataset_stats(["set_under_test"]).class_names == names
