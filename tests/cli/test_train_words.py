"""The words of the training command."""

from pathlib import Path

import pytest

from d2ext.cli import train
from d2ext.cli.train import argument_parser, with_data


def parsed(*words: str):
    return with_data(argument_parser().parse_args(words))


def test_a_path_alone_is_the_training_data(tmp_path: Path) -> None:
    args = parsed(str(tmp_path))
    assert args.train == [str(tmp_path)]
    assert args.opts == []


def test_a_path_may_stand_among_flags_and_config_values(tmp_path: Path) -> None:
    images = f"{tmp_path}:images"
    args = parsed("--epochs", "3", images, "SOLVER.IMS_PER_BATCH", "2")
    assert args.train == [images]
    assert args.opts == ["SOLVER.MAX_EPOCHS", "3", "SOLVER.IMS_PER_BATCH", "2"]


def test_values_that_are_paths_stay_values(tmp_path: Path) -> None:
    args = parsed("--output", str(tmp_path), "MODEL.WEIGHTS", str(tmp_path))
    assert args.train == []
    assert args.opts == ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", str(tmp_path)]


def test_other_words_stay_for_the_check_of_config_values() -> None:
    assert parsed("no/such/folder").opts == ["no/such/folder"]


def test_the_command_takes_the_path(tmp_path: Path, monkeypatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(train, "run_command", lambda args, words: seen.append(args.train))
    train.main([str(tmp_path), "SOLVER.MAX_ITER", "3"])
    assert seen == [[str(tmp_path)]]


def test_a_run_is_resumed_or_overwritten(capsys) -> None:
    with pytest.raises(SystemExit):
        parsed("--resume", "--overwrite")
    assert "not allowed with argument --resume" in capsys.readouterr().err
