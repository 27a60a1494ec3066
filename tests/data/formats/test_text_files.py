"""Encodings of text: marks, declarations, guesses, and what is said of them."""

from collections import Counter

import pytest

from d2ext.data.formats import load_split
from d2ext.data.formats.text_files import decode, encoding_notes, read_text
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, voc_box, voc_xml, write


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("Öl", "utf-8", "UTF-8"),
        ("Öl", "utf-8-sig", "UTF-8"),
        ("Öl", "utf-16", "UTF-16"),
        ("cat\n", "utf-16-le", "UTF-16-LE"),
        ("cat\n", "utf-16-be", "UTF-16-BE"),
        ("Öl", "utf-32", "UTF-32"),
        ("Schlüssel;Öl", "cp1252", "cp1252"),
        ("créée, été", "cp1252", "cp1252"),
        ("0 猫\n1 汽车\n", "gb2312", "gb18030"),
        ('{"label": "汽车"}', "gb18030", "gb18030"),
    ],
)
def test_encodings_are_known_by_their_mark_or_guessed(text, encoding, name):
    assert decode(text.encode(encoding)) == (text, name)


def test_a_declared_encoding_counts_if_it_fits():
    content = "ключ".encode("cp1251")
    assert decode(content, "cp1251") == ("ключ", "cp1251")
    assert decode("Öl".encode(), "ascii")[0] == "Öl"
    assert decode("Öl".encode(), "no-such-encoding")[0] == "Öl"


def test_the_head_of_a_file_may_end_within_a_character(tmp_path):
    file = write(tmp_path / "a.txt", "aÖ")
    assert read_text(file, head=2) == "a"


def test_text_of_no_known_encoding_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\n\x81\n")
    with pytest.raises(DataError, match=r"a\.txt:2: not UTF-8 text"):
        read_text(tmp_path / "a.txt")


def test_notes_count_the_files():
    notes = encoding_notes(Counter({"cp1252": 2, "UTF-16": 1}))
    assert [note.split(";")[0] for note in notes] == [
        "no UTF-8: 2 files were read as cp1252",
        "no UTF-8: 1 file was read as UTF-16",
    ]


@pytest.mark.parametrize("declared", ["", "gb2312", "UTF-8"])
def test_xml_of_another_encoding_is_read_and_said(tmp_path, declared):
    save_image(tmp_path / "JPEGImages" / "a.png")
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    file = write(tmp_path / "Annotations" / "a.xml", "")
    file.write_bytes((head + voc_xml(voc_box("汽车", "1 2 11 12"))).encode("gb2312"))
    source = load_split(tmp_path)
    assert (source.classes, source.issues) == (("汽车",), [])
    assert any("no UTF-8: 1 file was read as gb" in note for note in source.notes)


def test_labels_of_dota_are_read_in_the_encoding_of_the_machine(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    file = write(tmp_path / "labelTxt" / "a.txt", "")
    file.write_bytes("4 4 12 4 12 8 4 8 Schlüssel 0\n".encode("cp1252"))
    assert load_split(tmp_path).classes == ("Schlüssel",)


def test_a_list_of_yolo_is_read_and_said(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "classes.txt").write_bytes("汽车\n".encode("gb2312"))
    source = load_split(tmp_path)
    assert source.classes == ("汽车",)
    assert "no UTF-8: 1 file was read as gb18030" in source.notes[-1]


def test_a_list_of_semantic_classes_is_read_and_said(tmp_path):
    for folder in ("images", "masks"):
        save_image(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_bytes("Straße\nDach\n".encode("cp1252"))
    source = load_split(tmp_path)
    assert source.classes == ("Straße", "Dach")
    assert "no UTF-8: 1 file was read as cp1252" in source.notes[-1]


@pytest.mark.parametrize("encoding", ["utf-16", "gb2312", "utf-8-sig"])
def test_labels_of_yolo_and_labelme_are_read_in_any_encoding(tmp_path, encoding):
    save_image(tmp_path / "a" / "a.png")
    write(tmp_path / "a" / "classes.txt", "cat\n")
    (tmp_path / "a" / "a.txt").write_bytes("0 0.5 0.5 0.2 0.2\n".encode(encoding))
    assert load_split(tmp_path / "a").num_annotations == 1
    save_image(tmp_path / "b" / "b.png")
    shape = '{"label": "汽车", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]}'
    content = f'{{"imagePath": "b.png", "shapes": [{shape}]}}'
    (tmp_path / "b" / "b.json").write_bytes(content.encode(encoding))
    assert load_split(tmp_path / "b").classes == ("汽车",)


def test_json_of_coco_is_read_in_utf16(coco_text, tmp_path):
    save_image(tmp_path / "a.png")
    file = write(tmp_path / "a.json", "")
    file.write_bytes(coco_text.encode("utf-16"))
    source = load_split(file)
    assert source.classes == ("Käfer",)
    assert source.coco_file is None  # pycocotools could not read it
    assert "no UTF-8: 1 file was read as UTF-16" in source.notes[-1]


@pytest.fixture
def coco_text():
    return (
        '{"info": {}, "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}],'
        ' "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 4]}],'
        ' "categories": [{"id": 1, "name": "Käfer"}]}'
    )
