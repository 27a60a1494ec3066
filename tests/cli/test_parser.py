import subprocess
import sys
from pathlib import Path

import pytest

from d2ext.cli import check_data, convert_data, convert_weights, demo, export, parity, train
from d2ext.cli.parser import CommandParser, program
from d2ext.data.conversion.convert import WRITERS
from d2ext.exporters.formats import SUFFIXES
from d2ext.inference import writers

ROOT = Path(__file__).parents[2]


def refused(capsys, words):
    with pytest.raises(SystemExit) as stop:
        train.argument_parser().parse_args(words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epoks", "3"], "error: unknown flag --epoks; did you mean --epochs?"),
        (["--batch", "0"], "'0' is not a whole number from 1 on"),
        (["--lr", "nan"], "'nan' is not a number above 0"),
        (["--device", "0"], "did you mean cuda:0?"),
        (["--num-gpus", "-1"], "'-1' is not a whole number from 0 on"),
        (["--epochs", "2", "SOLVER.MAX_EPOCHS", "3"], "--epochs and SOLVER.MAX_EPOCHS are the"),
    ],
)
def test_a_mistake_is_one_line(capsys, words, said):
    line = refused(capsys, words)
    assert line.startswith("error: ")
    assert said in line


def test_an_unknown_flag_is_named_before_one_that_is_missing(capsys):
    with pytest.raises(SystemExit):
        demo.argument_parser().parse_args(["--inptu", "a.jpg"])
    assert "unknown flag --inptu; did you mean --input?" in capsys.readouterr().err


def test_flags_are_short_for_config_keys_and_pairs_may_stand_anywhere():
    words = ["--epochs", "3", "SOLVER.GAMMA", "-1e-3", "--train", "a", "SEED", "7", "--lr", "0.1"]
    args = train.argument_parser().parse_args(words)
    assert args.train == ["a"]
    pairs = dict(zip(args.opts[::2], args.opts[1::2], strict=True))
    assert pairs == {
        "SOLVER.MAX_EPOCHS": "3",
        "SOLVER.BASE_LR": "0.1",
        "SOLVER.GAMMA": "-1e-3",
        "SEED": "7",
    }


def test_a_file_that_looks_like_a_config_key_stays_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEST.JPG").touch()
    args = demo.argument_parser().parse_args(
        ["--input", "TEST.JPG", "b.jpg", "MODEL.DEVICE", "cpu"]
    )
    assert args.input == ["TEST.JPG", "b.jpg"]
    assert args.opts == ["MODEL.DEVICE", "cpu"]


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("/env/bin/d2ext-train", "d2ext-demo"),
        ("/home/me/d2ext/tools/train_net.py", "python /home/me/d2ext/tools/demo.py"),
        ("pytest", "python tools/demo.py"),
    ],
)
def test_help_names_commands_as_they_were_called(monkeypatch, called, expected):
    monkeypatch.setattr(sys, "argv", [called])
    assert program("demo") == expected
    assert f"{expected} --weights" in demo.argument_parser().format_help()


def test_commands_import_nothing_heavy_before_their_arguments_are_parsed():
    names = [m.__name__ for m in (check_data, convert_data, convert_weights, demo, export, parity)]
    code = (
        f"import sys, d2ext.cli.entry_points, {', '.join(names)}, d2ext.cli.train as train\n"
        "try: train.main(['--version'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'cv2', 'detectron2', 'matplotlib', 'yaml'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    version, heavy = done.stdout.splitlines()
    assert version.startswith("d2ext ")
    assert heavy == "[]"


def test_choices_are_those_that_are_registered():
    assert set(convert_data.FORMATS) == set(WRITERS)
    assert set(export.FORMATS) == set(SUFFIXES)
    assert set(demo.FORMATS) <= set(writers._WRITERS)


def test_config_values_are_not_among_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser("check_data", "Check.", "")
    parser.add_argument("path", metavar="PATH")
    parser.add_opts()
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert capsys.readouterr().err.startswith("error: the following arguments are required: PATH.")
