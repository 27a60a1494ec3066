from pathlib import Path, PurePath

import pytest

from d2ext.errors import DataError
from d2ext.inference.inputs import find_images

OUT = Path("nowhere")


@pytest.fixture
def folder(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub dir/ü.jpeg", "notes.txt", ".hidden.jpg", "sub dir/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(found):
    return [path.as_posix() for path in found.values()]


def test_a_folder_gives_the_images_in_it_and_below_under_their_own_paths(folder):
    found = find_images([str(folder)], OUT)
    assert sorted(names(found)) == ["a.jpg", "b.PNG", "sub dir/a.jpg", "sub dir/ü.jpeg"]


def test_a_named_file_is_taken_whatever_its_suffix(folder):
    assert find_images([str(folder / "notes.txt")], OUT) == {
        folder / "notes.txt": PurePath("notes.png")
    }


def test_a_pattern_that_no_shell_expanded_is_expanded(folder):
    assert names(find_images([str(folder / "*.jpg")], OUT)) == ["a.jpg"]
    assert len(find_images([str(folder / "**" / "*.jpg")], OUT)) == 2


def test_a_file_with_brackets_in_its_name_is_no_pattern(folder):
    (folder / "c[1].jpg").touch()
    assert names(find_images([str(folder / "c[1].jpg")], OUT)) == ["c[1].jpg"]


def test_the_same_name_from_two_folders_goes_to_two_places(folder):
    found = find_images([str(folder / "a.jpg"), str(folder / "sub dir" / "a.jpg")], OUT)
    assert names(found) == ["a.jpg", "a_2.jpg"]


def test_output_names_that_differ_in_case_or_suffix_only_are_numbered(folder):
    for name in ("A.tif", "other/a.bmp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = find_images([str(folder / "A.tif"), str(folder / "other" / "a.bmp")], OUT)
    assert names(found) == ["A.png", "a_2.png"]


def test_an_input_named_twice_is_taken_once(folder):
    file = str(folder / "a.jpg")
    assert names(find_images([file, file, str(folder / "a.*")], OUT)) == ["a.jpg"]


def test_pictures_of_an_earlier_call_are_no_inputs(folder):
    found = find_images([str(folder)], folder / "sub dir")
    assert sorted(names(found)) == ["a.jpg", "b.PNG"]


def test_what_does_not_exist_is_named(folder):
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        find_images([str(folder / "none.jpg")], OUT)


def test_a_folder_without_images_is_named_with_the_suffixes_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"nothing to read there.*\.jpg"):
        find_images([str(tmp_path)], OUT)


def test_config_values_taken_for_inputs_are_explained():
    with pytest.raises(DataError, match="Config values come last"):
        find_images(["MODEL.WEIGHTS", "model.pth"], OUT)
