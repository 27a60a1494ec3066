import hashlib
from pathlib import Path

import pytest
import torch

from d2ext.checkpoint import Checkpointer, read_metadata
from d2ext.checkpoint.uri import WeightsURI, local_file
from d2ext.errors import WeightsError

DIGITS = "0123456789abcdef" * 4


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({"model": {"weight": torch.ones(2, 2), "bias": torch.ones(2)}}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a.pth", WeightsURI("a.pth")),
        (f"https://x/a.pth#sha256={DIGITS.upper()}", WeightsURI("https://x/a.pth", DIGITS)),
        ("a.pkl?matching_heuristics=True", WeightsURI("a.pkl", heuristics=True)),
        (f"a?matching_heuristics=True#sha256={DIGITS}", WeightsURI("a", DIGITS, True)),
    ],
)
def test_a_source_is_taken_apart(text: str, source: WeightsURI) -> None:
    assert WeightsURI.parse(text) == source


def test_a_checksum_that_is_none_is_named() -> None:
    with pytest.raises(WeightsError, match="takes 64 hexadecimal digits"):
        WeightsURI.parse("a.pth#sha256=12")


def test_the_right_checksum_passes_everywhere(weights: Path) -> None:
    text = f"{weights}#sha256={hashlib.sha256(weights.read_bytes()).hexdigest()}"
    assert local_file(text) == weights
    assert read_metadata(text) == {}
    net = torch.nn.Linear(2, 2)
    Checkpointer(net).load(text)
    assert net.weight.eq(1).all()


def test_a_wrong_checksum_is_an_error_that_names_both(weights: Path) -> None:
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"its SHA-256 is {found}, not {DIGITS}"):
        Checkpointer(torch.nn.Linear(2, 2)).load(f"{weights}#sha256={DIGITS}")


def test_a_changed_file_is_summed_anew(weights: Path) -> None:
    text = f"{weights}#sha256={hashlib.sha256(weights.read_bytes()).hexdigest()}"
    local_file(text)
    weights.write_bytes(b"other")
    with pytest.raises(WeightsError, match="SHA-256"):
        local_file(text)


def test_an_unknown_name_of_the_catalog_is_an_error() -> None:
    with pytest.raises(WeightsError, match="catalog://nothing: cannot be fetched"):
        local_file("catalog://nothing")
