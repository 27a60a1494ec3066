import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

SPLITS = ["2014_train", "2014_val", "2014_minival", "2014_valminusminival"]
SPLITS += ["2017_train", "2017_val", "2017_val_100"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("prefix", ["coco", "keypoints_coco"])
def test_coco_splits_are_registered(prefix, split):
    assert f"{prefix}_{split}" in DatasetCatalog
    assert MetadataCatalog.get(f"{prefix}_{split}").evaluator_type == "coco"


@pytest.mark.parametrize(
    ("name", "annotations", "images"),
    [
        ("coco_2017_train", "annotations/instances_train2017.json", "train2017"),
        ("coco_2014_minival", "annotations/instances_minival2014.json", "val2014"),
        ("coco_2017_test-dev", "annotations/image_info_test-dev2017.json", "test2017"),
        ("keypoints_coco_2017_val", "annotations/person_keypoints_val2017.json", "val2017"),
    ],
)
def test_coco_files_have_their_official_paths(name, annotations, images):
    meta = MetadataCatalog.get(name)
    assert meta.json_file.replace("\\", "/").endswith(f"coco/{annotations}")
    assert meta.image_root.replace("\\", "/").endswith(f"coco/{images}")


def test_coco_has_80_things_with_gaps_in_their_ids():
    meta = MetadataCatalog.get("coco_2017_val")
    assert len(meta.thing_classes) == len(meta.thing_colors) == 80
    assert (meta.thing_classes[0], meta.thing_classes[79]) == ("person", "toothbrush")
    assert meta.thing_colors[0] == [220, 20, 60]
    ids = meta.thing_dataset_id_to_contiguous_id
    assert (ids[1], ids[13], ids[90]) == (0, 11, 79)
    assert 12 not in ids


def test_the_panoptic_table_has_53_stuff_classes():
    stuff = [category for category in COCO_CATEGORIES if not category["isthing"]]
    assert len(stuff) == 53
    assert stuff[-1] == {"id": 200, "name": "rug-merged", "isthing": 0, "color": [250, 141, 255]}


def test_a_person_has_17_keypoints():
    meta = MetadataCatalog.get("keypoints_coco_2017_val")
    assert meta.thing_classes == ["person"]
    assert len(meta.keypoint_names) == 17
    assert ("left_eye", "right_eye") in meta.keypoint_flip_map
    assert ("left_eye", "nose", (102, 0, 204)) in meta.keypoint_connection_rules


@pytest.mark.parametrize("split", ["2017_train", "2017_val", "2017_val_100"])
@pytest.mark.parametrize(
    ("ending", "kind"),
    [("", "coco_panoptic_seg"), ("_separated", "coco_panoptic_seg"), ("_stuffonly", "sem_seg")],
)
def test_panoptic_coco_splits_are_registered(split, ending, kind):
    assert f"coco_{split}_panoptic{ending}" in DatasetCatalog
    assert MetadataCatalog.get(f"coco_{split}_panoptic{ending}").evaluator_type == kind


def test_things_and_stuff_share_a_numbering_in_the_standard_form():
    meta = MetadataCatalog.get("coco_2017_val_panoptic")
    assert meta.thing_classes == meta.stuff_classes
    assert meta.thing_dataset_id_to_contiguous_id[90] == 79
    assert meta.stuff_dataset_id_to_contiguous_id[92] == 80
    assert meta.stuff_classes[132] == "rug-merged"
    assert meta.panoptic_json.endswith("coco/annotations/panoptic_val2017.json")


def test_stuff_has_its_own_numbering_in_the_separated_form():
    meta = MetadataCatalog.get("coco_2017_val_panoptic_separated")
    assert meta.stuff_classes[:2] == ["things", "banner"]
    assert meta.stuff_classes[-1] == "rug"
    assert len(meta.stuff_classes) == len(meta.stuff_colors) == 54
    assert meta.stuff_dataset_id_to_contiguous_id[0] == 0
    assert meta.stuff_dataset_id_to_contiguous_id[200] == 53
    assert meta.sem_seg_root.endswith("coco/panoptic_stuff_val2017")


@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes_splits_are_registered(split):
    for task, kind in [("instance_seg", "instance"), ("sem_seg", "sem_seg")]:
        meta = MetadataCatalog.get(f"cityscapes_fine_{task}_{split}")
        assert meta.evaluator_type == f"cityscapes_{kind}"
        assert meta.gt_dir.endswith(f"cityscapes/gtFine/{split}/")
        assert (len(meta.thing_classes), len(meta.stuff_classes)) == (8, 19)
    meta = MetadataCatalog.get(f"cityscapes_fine_panoptic_{split}")
    assert meta.thing_dataset_id_to_contiguous_id == {
        24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18
    }  # fmt: skip
    assert meta.thing_colors[11] == (220, 20, 60)


def test_ade20k_has_150_classes():
    meta = MetadataCatalog.get("ade20k_sem_seg_val")
    assert len(meta.stuff_classes) == 150
    assert (meta.stuff_classes[0], meta.stuff_classes[149]) == ("wall", "flag")
    assert meta.sem_seg_root.endswith("ADEChallengeData2016/annotations_detectron2/validation")
