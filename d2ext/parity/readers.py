"""The registry of parity readers: functions that compute what a kind of reference case stores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from d2ext.parity.case import Case, Comparison

Outputs = Callable[[Any], Mapping[str, Tensor]]


@dataclass(frozen=True)
class ParityReader:
    """How cases of one kind are recognised, read and computed.

    Attributes:
        recognises: returns True for a `case.json` of this kind.
        read: reads the case of a folder.
        outputs: computes, with our model, what the case stores.
    """

    recognises: Callable[[dict[str, Any]], bool]
    read: Callable[[Path], Case]
    outputs: Outputs

    def compare(self, folder: Path) -> list[Comparison]:
        """Compare everything that the case in `folder` stores with ours."""
        case = self.read(folder)
        return case.compare_all(self.outputs(case))


_READERS: list[ParityReader] = []


def register_parity_reader(
    recognises: Callable[[dict[str, Any]], bool],
    outputs: Outputs,
    read: Callable[[Path], Case] = Case,
) -> None:
    """Register a kind of reference cases.

    The last one registered is asked first, so that a project's reader wins over those of d2ext. A
    project registers its readers in a module `parity`, which tools/parity.py imports.

    Args:
        recognises: returns True for the contents of a `case.json` of this kind.
        outputs: computes, with our model, what a case stores, by key.
        read: reads the case of a folder; `Case` or a subclass of it.
    """
    _READERS.insert(0, ParityReader(recognises, read, outputs))


def reader_for(facts: dict[str, Any]) -> ParityReader | None:
    """Return the reader that recognises a `case.json`, if there is one."""
    return next((reader for reader in _READERS if reader.recognises(facts)), None)
