"""Tables of boxes: headers, delimiters, shares, and wrong rows."""

import pytest

from d2ext.data.formats import load_split, load_splits
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write


def table(folder, text, name="boxes.csv"):
    save_image(folder / "images" / "a.png")
    save_image(folder / "images" / "b.png")
    return write(folder / name, text)


def boxes(source):
    return [[item["bbox"] for item in image["annotations"]] for image in source.images]


@pytest.mark.parametrize(
    "text",
    [
        "image,xmin,ymin,xmax,ymax,label\na.png,1,2,5,8,cat\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,32,24,cat,1,2,5,8\n",
        "image;xmin;ymin;xmax;ymax;label\na.png;1;2;5;8;cat\n",
        "sep=;\nimage;xmin;ymin;xmax;ymax;label\na.png;1,000;2,0;5;8;cat\n",
        "Image_ID, X1, Y1, X2, Y2, Class Name\na, 1, 2, 5, 8, cat\n",
        "images/a.png,1,2,5,8,cat\n",
        "image,xmin,ymin,xmax,ymax,label\na.png,0.03125,0.083333333333,0.15625,0.3333333333,cat\n",
    ],
)
def test_spellings_of_a_table_give_the_same_box(tmp_path, text):
    source = load_split(table(tmp_path, text))
    assert source.classes == ("cat",)
    assert boxes(source)[0][0] == pytest.approx([1, 2, 4, 6])


def test_a_row_with_nothing_but_a_name_is_an_image_without_objects(tmp_path):
    text = "a.png,1,2,5,8,cat\nb.png,,,,,\n"
    assert [len(found) for found in boxes(load_split(table(tmp_path, text)))] == [1, 0]


def test_wrong_rows_are_told_with_their_line(tmp_path):
    text = (
        "image,xmin,ymin,xmax,ymax,label\na.png,1,2,5,8,cat\na.png,1,x,5,8,cat\nz.png,1,2,3,4,c\n"
    )
    source = load_split(table(tmp_path, text))
    assert [(issue.code, issue.where[-2:]) for issue in source.issues] == [
        ("record-broken", ":3"),
        ("image-missing", ":4"),
    ]
    assert "row without four numbers" in source.issues[0].detail
    assert "image not found" in source.issues[1].detail


def test_tables_named_as_splits_are_splits(tmp_path):
    for name in ("train.csv", "val.csv"):
        table(tmp_path, "a.png,1,2,5,8,cat\n", name)
    assert list(load_splits(tmp_path)) == ["train", "val"]


def test_a_table_of_something_else_says_which_columns_are_needed(tmp_path):
    with pytest.raises(DataError, match="xmin, ymin, xmax, ymax, label; found a, b"):
        load_split(table(tmp_path, "a,b\n1,2\n"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_table_has_the_encoding_that_spreadsheets_save(tmp_path, encoding):
    text = "image;xmin;ymin;xmax;ymax;label\n"
    text += "".join(f"a.png;1;2;5;8;{name}\n" for name in ("Schlüssel", "Schlössel") * 200)
    path = table(tmp_path, "")
    path.write_bytes(text.encode(encoding))
    source = load_split(tmp_path)
    assert source.classes == ("Schlössel", "Schlüssel")
    assert any("cp1252" in note for note in source.notes) is (encoding == "cp1252")


def test_a_table_of_another_encoding_is_refused(tmp_path):
    path = table(tmp_path, "")
    path.write_bytes(b"image,xmin,ymin,xmax,ymax,label\na.png,1,2,5,8,\x81\n")
    with pytest.raises(DataError, match="Save the file as UTF-8"):
        load_split(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('image_id,width,height,bbox,source\na,32,24,"[1.0, 2.0, 4.0, 6.0]",x\n', "bbox is read"),
        ("patientId,x,y,width,height,Target\na,1,2,4,6,1\n", "x, y, width and height"),
        ("filename,x_center,y_center,w,h,class\na.png,3,5,4,6,1\n", "centre, width and height"),
        ("image_id,x_min,y_min,x_max,y_max\na,1,2,5,8\n", 'all are "object"'),
        ("image;xmin;ymin;xmax;ymax;label\na.png;1,0;2,0;5,0;8,0;1\n", ""),
    ],
)
def test_tables_of_competitions_and_spreadsheets_are_read_by_their_columns(tmp_path, text, said):
    source = load_split(table(tmp_path, text))
    assert boxes(source)[0][0] == [1, 2, 4, 6]
    assert source.classes in (("1",), ("object",))
    assert said in " ".join(source.notes)


def test_rows_that_name_a_class_without_a_box_are_images_without_objects(tmp_path):
    text = "image_id,class_name,x_min,y_min,x_max,y_max\na,cat,1,2,5,8\nb,No finding,,nan,,\n"
    source = load_split(table(tmp_path, text))
    assert ([len(found) for found in boxes(source)], source.classes) == ([1, 0], ("cat",))
    assert source.issues == []
    assert "1 rows name a class without a box: no objects" in source.notes


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("ImageId,EncodedPixels\na.png,25 2 49 2\nb.png,\n", ("object",)),
        ("ImageId_ClassId,EncodedPixels\na.png_3,25 2 49 2\nb.png_3,\n", ("3",)),
    ],
)
def test_encoded_pixels_count_down_the_columns_from_one(tmp_path, text, classes):
    source = load_split(table(tmp_path, text))
    assert (source.task, source.classes) == ("masks", classes)
    # An image of 24 rows: pixel 25 is the top of the second column.
    assert [item["bbox"] for item in source.images[0]["annotations"]] == [[1, 0, 2, 2]]
    assert len(source.images) == 2


def test_encoded_pixels_beyond_the_image_are_an_issue(tmp_path):
    source = load_split(table(tmp_path, "ImageId,EncodedPixels\na.png,760 20\na.png,1 5\n"))
    assert [issue.code for issue in source.issues] == ["record-broken"]
    assert "row without run lengths" in source.issues[0].detail


def test_what_may_be_thousands_between_commas_is_an_issue(tmp_path):
    text = 'image,xmin,ymin,xmax,ymax,label\na.png,"1,002",3,10,9,cat\na.png,"1,5",3,10,9,cat\n'
    source = load_split(table(tmp_path, text))
    assert [issue.code for issue in source.issues] == ["record-broken"]
    assert boxes(source) == [[[1.5, 3, 8.5, 6]]]
