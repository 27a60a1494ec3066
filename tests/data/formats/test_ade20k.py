"""ADE20K's folders: semantic as downloaded, panoptic where its JSON files were made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2ext.data.formats import detect_format, load_split
from tests.helpers.panoptic_data import write_panoptic
from tests.helpers.planted_dataset import HEIGHT, WIDTH, picture


@pytest.fixture
def ade20k(tmp_path: Path) -> Path:
    """One image per split: half of it class 2, half other objects."""
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[24:] = 2
        for folder, suffix, content in (
            ("images", ".jpg", picture(1)),
            ("annotations", ".png", Image.fromarray(labels)),
        ):
            path = tmp_path / folder / split / f"{name}{suffix}"
            path.parent.mkdir(parents=True)
            content.save(path)
    (tmp_path / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
        "1\t0.1576\t11664\t1172\t1\twall                \n"
        "2\t0.1072\t6046\t612\t1\tbuilding, edifice\n"
    )
    return tmp_path


def test_the_download_is_semantic_and_other_objects_are_ignored(ade20k):
    assert detect_format(ade20k).splits == ("train", "val")
    dataset = load_split(ade20k, "train")
    assert (dataset.task, dataset.classes) == ("semantic", ("wall", "building"))
    assert dataset.issues == []
    with Image.open(dataset.images[0]["sem_seg_file_name"]) as image:
        labels = np.asarray(image)
    assert dataset.ignore_label == 255
    assert np.unique(labels[:24]).tolist() == [255]
    assert np.unique(labels[24:]).tolist() == [1]


def test_with_panoptic_files_it_is_panoptic(ade20k):
    path = write_panoptic(ade20k)
    (ade20k / "images" / "train_0.jpg").rename(ade20k / "images" / "training" / "train_0.jpg")
    for number in (1, 2):
        old = ade20k / "images" / f"train_{number}.jpg"
        old.rename(ade20k / "images" / "training" / old.name)
    path.rename(ade20k / "ade20k_panoptic_train.json")
    (ade20k / "panoptic_train").rename(ade20k / "ade20k_panoptic_train")
    (ade20k / "ade20k_instance_train.json").write_text('{"images": [], "annotations": []}')
    dataset = load_split(ade20k, "train")
    assert (dataset.task, len(dataset.images)) == ("panoptic", 3)
    assert Path(dataset.images[0]["file_name"]).parent.name == "training"
