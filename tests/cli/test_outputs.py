"""Every command refuses at once what it could not write at its end."""

import json

import pytest

from d2ext.cli import benchmark_models, check_data, convert_data, convert_weights, demo, show_data
from d2ext.cli import report as report_command
from d2ext.errors import OutputError
from d2ext.files import check_output_file
from tests.helpers.dataset_folders import save_image, write

WORDS = {
    show_data: ("no/data", "--out", "{out}"),
    check_data: ("no/data", "--report", "{out}"),
    convert_data: ("no/data", "--to", "coco", "{out}"),
    convert_weights: ("no.pth", "--to", "{out}.pth"),
    benchmark_models: ("no.pth", "--data", "no/data", "--json", "{out}"),
    demo: ("--weights", "no.pth", "--input", "no.jpg", "--output", "{out}"),
}


@pytest.mark.parametrize("command", WORDS, ids=lambda command: command.__name__)
def test_a_place_below_a_file_is_refused_before_anything_is_read(command, tmp_path):
    write(tmp_path / "file", "")
    words = [word.format(out=tmp_path / "file" / "deep" / "out") for word in WORDS[command]]
    with pytest.raises(OutputError, match=r"out.*: cannot be written .*Not a directory"):
        command.main(words)


@pytest.mark.parametrize("command", [show_data, convert_data, demo])
def test_a_file_in_the_place_of_a_folder_is_refused(command, tmp_path):
    out = write(tmp_path / "out", "mine")
    words = [word.format(out=out) for word in WORDS[command]]
    with pytest.raises(OutputError, match=r"out\S*: (a file|cannot be written)"):
        command.main(words)
    assert out.read_text() == "mine"


@pytest.fixture
def data(tmp_path):
    save_image(tmp_path / "data" / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 32, "height": 24}
    item = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8], "area": 64}
    document = {"info": {}, "images": [image], "annotations": [{**item, "iscrowd": 0}]}
    document["categories"] = [{"id": 1, "name": "cat"}]
    return write(tmp_path / "data" / "a.json", json.dumps(document))


def test_a_report_never_replaces_annotations(data):
    before = data.read_bytes()
    with pytest.raises(OutputError, match=r"a\.json: a file of the data"):
        check_data.main([str(data), "--report", str(data)])
    assert data.read_bytes() == before


def test_the_report_may_lie_in_the_folder_of_the_fixed_copy(data, tmp_path):
    out = tmp_path / "fixed"
    check_data.main([str(data), "--fix", str(out), "--report", str(out / "issues.json")])
    assert {path.name for path in out.iterdir()} >= {"issues.json", "repairs.json"}


def test_converted_weights_never_replace_their_source(tmp_path):
    source = write(tmp_path / "a.pth", "")
    with pytest.raises(OutputError, match="the source itself"):
        convert_weights.main([str(source), "--to", str(tmp_path / "x" / ".." / "a.pth")])


def test_the_page_of_a_run_is_checked_before_the_run_is_read(tmp_path):
    write(tmp_path / "run" / "config.yaml", "VERSION: 2\n")
    with pytest.raises(OutputError, match="a folder; --out names a file"):
        report_command.main([str(tmp_path / "run"), "--out", str(tmp_path)])
    check_output_file(tmp_path / "run" / "report.html", "--out")
