"""Files that are nested, long or linked beyond any use are refused with one message, or end."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2ext.data.checks.check import check_splits
from d2ext.data.formats import load_splits
from d2ext.data.formats.coco_document import read_json
from d2ext.data.formats.image_files import images_below
from d2ext.errors import DataError
from tools.fuzz_samples import write_samples

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


class Hangs(BaseException):
    """No Exception, since readers turn some of those into messages."""


@pytest.fixture
def limited() -> Iterator[None]:
    """Raise `Hangs` where a read does not end."""

    def stop(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    found = write_samples(tmp_path_factory.mktemp("samples"))
    return {k: v for k, v in found.items() if k not in ("checkpoints", "operators", "results")}


def link(target: str) -> Callable[[Path], None]:
    return lambda path: (path.unlink(), path.symlink_to(target or path.name))  # type: ignore[func-returns-value]


def numbers(path: Path) -> None:
    content = path.read_bytes()
    for old in (b"20", b"10", b"25", b"9"):
        content = content.replace(old, b"9" * 400)
    path.write_bytes(content)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a device": link("/dev/zero"),
    "a link to itself": link(""),
    "a link to nothing": link("/no/such/file"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a long name": lambda path: path.write_bytes(
        path.read_bytes().replace(b"a.png", b"a" * 5000 + b".png")
    ),
    "numbers of 400 digits": numbers,
    "a picture of terabytes": lambda path: path.write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0R\x1e\x0c\x9a"
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_files_of_any_format_are_issues_or_one_message(
    tmp_path, samples, limited, monkeypatch, name
):
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    messages = []
    for kind, sample in samples.items():
        files = sorted(path.relative_to(sample) for path in sample.rglob("*") if path.is_file())
        for number, file in enumerate((files[0], files[-1])):
            case = tmp_path / f"{kind}{number}"
            shutil.copytree(sample, case)
            STRANGE[name](case / file)
            try:
                check_splits(load_splits(next(case.glob("*.zip"), case)))
            except DataError as error:
                messages.append(str(error))
    assert "\n" not in "".join(messages)
