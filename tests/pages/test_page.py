"""Pages hold everything themselves, and escape what they are given."""

import re

import numpy as np

from d2ext.pages import charts
from d2ext.pages.crops import crop
from d2ext.pages.page import Page
from d2ext.visualization.drawing import Mark


def written(page, tmp_path):
    page.write(tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_texts_are_escaped(tmp_path):
    nasty = '<script>alert("x")</script>'
    page = Page(nasty)
    page.heading(nasty), page.text(nasty), page.code(nasty), page.items([nasty])
    page.table((nasty, "b"), [(nasty, 1)])
    page.pictures([(np.zeros((4, 4, 3), np.uint8), nasty)])
    page.charts([(charts.bars(nasty, [nasty], {"": np.array([3])}), nasty)])
    text = written(page, tmp_path)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8


def test_nothing_is_fetched(tmp_path):
    page = Page("a page")
    page.pictures([(np.zeros((4, 4, 3), np.uint8), "black")])
    page.charts([(charts.heat("places", np.eye(3)), "places")])
    text = written(page, tmp_path)
    sources = re.findall(r'src="([^"]{5})', text)
    assert sources == ["data:", "data:"]
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert '<meta name="viewport" content="width=device-width' in text


def test_charts_are_drawn_of_anything():
    nothing = {"train": np.array([])}
    strange = {"train": np.array([np.nan, -1.0, 0.0, np.inf, 3.0]), "val": np.array([2.0])}
    for values in (nothing, strange):
        assert charts.histogram("sizes", "pixels", values).startswith(b"<?xml")
    assert b"svg" in charts.bars("classes", [], {"train": np.array([], int)})
    unfinished = {"loss": (np.arange(3), np.array([np.nan, 1.0, np.inf]))}
    assert b"svg" in charts.lines("loss", "iteration", unfinished)


def test_a_crop_shows_the_box_and_its_surroundings():
    image = np.zeros((200, 300, 3), np.uint8)
    image[50:70, 100:120] = 255
    found = crop(image, (100, 50, 120, 70), [Mark((100, 50, 120, 70), (255, 0, 0), "")])
    assert max(found.shape[:2]) == 240
    share = (found.min(axis=2) > 127).mean()
    assert 0.15 < share < 0.3  # a quarter


def test_boxes_beyond_the_image_or_without_size_are_shown_too():
    image = np.zeros((20, 30, 3), np.uint8)
    for box in ((-50, -50, -40, -40), (25, 15, 500, 400), (10, 10, 10, 10), (1e9, 0, 2e9, 5)):
        assert crop(image, box, [Mark(box, (255, 0, 0), "x")]).size
