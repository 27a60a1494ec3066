"""The images of a run stay the same: on resume, and where some were held out for evaluation."""

import pytest
from PIL import Image

from d2ext.cli.train import argument_parser
from d2ext.config import get_cfg
from d2ext.data.catalog import replace_datasets
from d2ext.data.dataset_paths import register_datasets
from d2ext.engine.dataset_arguments import find_datasets
from d2ext.engine.same_images import check_held_out_images, check_resumed_images, image_lists
from d2ext.errors import ConfigError
from tests.helpers.dataset_folders import save_image, write


def cfg_of(folder, *words):
    """A config whose data sets are registered."""
    replace_datasets([])
    cfg = get_cfg()
    args = argument_parser().parse_args(["--train", str(folder), *words])
    cfg.DATASETS, _ = find_datasets(cfg, args)
    replace_datasets(cfg.DATASETS.REGISTER)
    register_datasets(cfg)
    return cfg


@pytest.fixture
def folder(tmp_path):
    for number in range(8):
        add(tmp_path / "data", f"{number}")
    write(tmp_path / "data" / "labels" / "classes.txt", "cat\n")
    yield tmp_path / "data"
    replace_datasets([])


def add(folder, name):
    save_image(folder / "images" / f"{name}.png")
    write(folder / "labels" / f"{name}.txt", "0 0.5 0.5 0.25 0.5\n")


def test_the_same_images_pass_also_at_another_place_and_with_other_labels(folder, tmp_path):
    before = image_lists(cfg_of(folder, "--val", "0.25"))
    assert [line.partition(",")[0] for line in before] == ["train: 6 images", "val: 2 images"]
    write(folder / "labels" / "3.txt", "0 0.5 0.5 0.5 0.5\n")
    moved = folder.rename(tmp_path / "moved")
    cfg = cfg_of(moved, "--val", "0.25")
    check_resumed_images(before, cfg)
    check_held_out_images(before, cfg)
    check_resumed_images([], cfg)  # of a checkpoint that lists none


def test_added_and_renamed_images_are_refused_on_resume(folder):
    before = image_lists(cfg_of(folder))
    add(folder, "new")
    with pytest.raises(ConfigError, match=r"data has 9 images by now, and the run had 8 images"):
        check_resumed_images(before, cfg_of(folder))
    (folder / "images" / "0.png").unlink()
    with pytest.raises(ConfigError, match="has 8 images by now, and the run had 8 images of other"):
        check_resumed_images(before, cfg_of(folder))


def test_a_share_is_not_drawn_anew_for_an_evaluation(folder):
    before = image_lists(cfg_of(folder, "--val", "0.25"))
    without = image_lists(cfg_of(folder))
    for number in range(4):
        add(folder, f"new_{number}")
    with pytest.raises(ConfigError, match=r"--eval-only: of .*data .* were held out"):
        check_held_out_images(before, cfg_of(folder, "--val", "0.25"))
    check_held_out_images(without, cfg_of(folder))  # nothing is held out: any images evaluate


def test_what_cannot_be_read_as_an_image_is_none_of_the_images(folder):
    before = image_lists(cfg_of(folder))
    (folder / "images" / "x.png").write_bytes(b"no image")
    assert image_lists(cfg_of(folder)) == before
    Image.new("RGB", (8, 8)).save(folder / "images" / "x.png")
    assert image_lists(cfg_of(folder)) != before
