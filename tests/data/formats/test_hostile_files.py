"""Files that are nested, long or linked beyond any use are refused with one message, or end."""

import os

import numpy as np
import pytest
from PIL import Image

from d2ext.data.formats import load_splits
from d2ext.data.formats.coco_document import read_json
from d2ext.data.formats.image_files import images_below
from d2ext.errors import DataError

DEEP = ["[" * 200_000, '{"a":' * 200_000, '{"images": ' + "9" * 9999 + "}"]


@pytest.mark.parametrize("text", DEEP, ids=["lists", "mappings", "digits"])
def test_json_nested_or_with_numbers_beyond_any_use_is_refused_by_name(tmp_path, text):
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"train\.json"):
        read_json(path)


@pytest.mark.parametrize("header", ["image,xmin,ymin,xmax,ymax,label", "filename,region_count"])
def test_a_table_with_a_field_of_megabytes_is_refused_by_name(tmp_path, header):
    path = tmp_path / "train.csv"
    path.write_text(f'{header}\n"{"x" * 1_000_000}",1,1,5,5,cat\n')
    with pytest.raises(DataError, match=r"train\.csv"):
        load_splits(path)


def test_a_yaml_of_aliases_that_grow_is_refused_before_it_does(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "train: images", "names: *a11"]))
    with pytest.raises(DataError, match=r"data\.yaml"):
        load_splits(tmp_path / "data.yaml")


def test_folder_links_in_a_circle_are_walked_once(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name / "x.png")
        for link in ("up", "again"):
            os.symlink(tmp_path, tmp_path / name / link, target_is_directory=True)
    assert images_below(tmp_path) == [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
