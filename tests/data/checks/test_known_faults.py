"""The faults that are known of real data sets, each by its name and in its native format."""

import os
from pathlib import Path

import pytest

from d2ext.data.checks.report import Fault, Report
from d2ext.data.checks.run import check_sources
from d2ext.data.dataset_paths import load_named_splits

DATA = Path(os.environ.get("D2EXT_SHARED", Path(__file__).parents[4] / "shared"), "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data sets")


def check(path: str, *val: str) -> Report:
    return check_sources(load_named_splits(str(DATA / path), [str(DATA / text) for text in val]))


def names(report: Report, code: str) -> list[str]:
    """Split and image of each fault of a kind."""
    return [f"{f.split} {f.image.stem[-5:]}" for f in told(report, code) if f.image]


def told(report: Report, code: str) -> list[Fault]:
    return [fault for fault in report.faults if fault.code == code]


@pytest.fixture(scope="module", params=["annotations", "data.yaml", "voc"])
def bccd(request) -> Report:
    return check(f"bccd/{request.param}")


def test_bccd_one_pixel_boxes(bccd):
    assert names(bccd, "box-tiny") == ["train 00343", "val 00338"]


def test_bccd_cells_labelled_twice(bccd):
    twice = ["train 00013", "train 00020", "train 00100", "train 00251", "train 00403"]
    assert names(bccd, "box-nearly-duplicate") == [*twice, "val 00104", "val 00331"]


def test_bccd_images_with_missing_objects(bccd):
    train = [f"train {n}" for n in ("00134", "00150", "00224", "00250", "00258", "00268")]
    val = [f"val {n}" for n in ("00147", "00152", "00330", "00350")]
    assert names(bccd, "image-few-objects") == [*train, *val]


def test_bccd_nearly_the_same_picture_in_both_splits(bccd):
    (fault,) = told(bccd, "leak-near")
    assert fault.image is not None
    assert fault.image.name == "BloodImage_00037.jpg"
    assert "BloodImage_00038.jpg of train" in fault.detail


def test_bccd_has_no_error(bccd):
    assert bccd.counts()["error"] == 0


@pytest.fixture(scope="module", params=["instances", "instances_rle"])
def nuclei(request) -> Report:
    train, val = (
        f"nuclei/annotations/{request.param}_{s}.json:{DATA}/nuclei/images/{s}"
        for s in ("train", "val")
    )
    return check(train, val)


def test_nuclei_masks_of_several_parts(nuclei):
    splits = [fault.split for fault in told(nuclei, "mask-parts")]
    assert (splits.count("train"), splits.count("val")) == (16, 2)


def test_nuclei_one_pair_that_overlaps(nuclei):
    (fault,) = told(nuclei, "mask-overlap")
    assert fault.split == "train"
    assert "2 pixels shared" in fault.detail


def test_nuclei_has_no_error(nuclei):
    assert nuclei.counts()["error"] == 0


@pytest.fixture(scope="module", params=["labelTxt", "voc_rotated", "rotated json"])
def hituav(request) -> Report:
    if request.param != "rotated json":
        return check(f"hituav/{request.param}")
    train, val = (
        f"hituav/annotations/rotated_{s}.json:{DATA}/hituav/images/{s}" for s in ("train", "val")
    )
    return check(train, val)


def test_hituav_dontcare_poses_as_a_class(hituav):
    found = [fault.detail for fault in told(hituav, "class-background")]
    assert found == ["'DontCare': 5 objects", "'DontCare': 1 objects"]


def test_hituav_othervehicle_is_almost_absent(hituav):
    assert "'OtherVehicle': 3 objects, 503 of Person" in [
        fault.detail for fault in told(hituav, "class-rare")
    ]


def test_hituav_a_sliver_at_the_border(hituav):
    assert names(hituav, "box-sliver") == ["val 00106"]


def test_hituav_frames_of_one_scene_in_both_splits(hituav):
    assert len(told(hituav, "leak-near")) == 6


def test_hituav_corners_outside():
    train, val = (
        f"hituav/annotations/rotated_{s}.json:{DATA}/hituav/images/{s}" for s in ("train", "val")
    )
    splits = [fault.split for fault in told(check(train, val), "box-corner-outside")]
    assert (splits.count("train"), splits.count("val")) == (19, 10)


def test_hituav_difficult_objects():
    splits = [fault.split for fault in told(check("hituav/labelTxt"), "object-difficult")]
    assert (splits.count("train"), splits.count("val")) == (4, 2)


@pytest.fixture(scope="module")
def dubai() -> Report:
    train, val = (
        f"dubai_aerial/masks_original/{s}:{DATA}/dubai_aerial/images/{s}" for s in ("train", "val")
    )
    return check(train, val)


def test_dubai_colours_that_are_not_those_of_the_masks(dubai):
    found = [fault.detail for fault in told(dubai, "class-colours") if fault.split == "train"]
    assert len(found) == 5
    assert any("'Water' is " in text and "#50e3c2" in text and "#e2a929" in text for text in found)


def test_dubai_a_colour_that_nobody_explains(dubai):
    black = [f.image.stem for f in told(dubai, "labels-unlisted") if "#000000" in f.detail]
    parts = ["tile3_image_part_006", "tile3_image_part_007", "tile6_image_part_005"]
    assert black == [*parts, "tile6_image_part_006", "tile5_image_part_002"]


def test_dubai_blocks_that_are_marked_unlabelled(dubai):
    assert "tile1_image_part_001" in [f.image.stem for f in told(dubai, "labels-much-ignored")]


def test_dubai_heights_that_differ_by_a_pixel(dubai):
    assert [f.image.stem[-3:] for f in told(dubai, "image-size-odd")] == ["004", "005", "006"]
