"""Reading and writing segment maps."""

import numpy as np
import pytest
from PIL import Image

from d2ext.data.segment_maps import (
    encode_segment_ids,
    label_map,
    position_map,
    read_segment_ids,
    segment_annotations,
    thing_numbers,
)

IDS = np.array([[0, 5, 5, 5], [70000, 70000, 5, 300]], np.int32)


def test_colours_are_ids_in_base_256(tmp_path):
    colours = encode_segment_ids(IDS)
    assert colours[1, 0].tolist() == [70000 % 256, 70000 // 256 % 256, 70000 // 65536]
    Image.fromarray(colours).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_segment_ids(tmp_path / "ids.png"), IDS)


def test_alpha_is_no_part_of_the_id(tmp_path):
    Image.fromarray(encode_segment_ids(IDS)).convert("RGBA").save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_segment_ids(tmp_path / "ids.png"), IDS)


def test_16_bit_grey_holds_ids_themselves(tmp_path):
    grey = np.array([[26001, 7], [0, 26002]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_segment_ids(tmp_path / "ids.png"), grey)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_files_that_are_no_image_are_an_os_error(content, tmp_path):
    if content is not None:
        (tmp_path / "ids.png").write_bytes(content)
    with pytest.raises(OSError, match=r"ids\.png"):
        read_segment_ids(tmp_path / "ids.png")


def test_positions_count_from_one_and_other_ids_have_none():
    found = position_map(IDS, [{"id": 70000}, {"id": 5}, {"id": 9}])
    np.testing.assert_array_equal(found, [[0, 2, 2, 2], [1, 1, 2, 0]])
    np.testing.assert_array_equal(position_map(IDS, []), np.zeros_like(IDS))


def test_labels_are_classes_and_void_is_ignored():
    segments = [{"id": 70000, "category_id": 7}, {"id": 5, "category_id": 3}]
    labels = label_map(position_map(IDS, segments), segments, 255)
    np.testing.assert_array_equal(labels, [[255, 3, 3, 3], [7, 7, 3, 255]])


def test_segments_become_annotations_with_the_boxes_of_their_masks():
    more = {"category_id": 3, "iscrowd": 0, "isthing": True}
    segments = [{"id": 9, **more}, {"id": 5, **more}]
    (found,) = segment_annotations(position_map(IDS, segments), segments)
    assert found["bbox"] == [1, 0, 4, 2]
    np.testing.assert_array_equal(found["segmentation"], [[0, 1, 1, 1], [0, 0, 1, 0]])


def test_things_are_counted_apart():
    assert thing_numbers([False, True, False, True]) == {1: 0, 3: 1}
