"""Parity: proof that our models give the numbers of their authors' code, on reference cases."""

from pathlib import Path

from d2ext.config.projects import import_projects
from d2ext.errors import DataError
from d2ext.parity import (  # noqa: F401  (register)
    attention,
    detectors,
    detectron2_models,
    modules,
)
from d2ext.parity.case import DATA_FILES, FILES, Case, Comparison, case_facts
from d2ext.parity.readers import reader_for, register_parity_reader

__all__ = ["Case", "Comparison", "register_parity_reader", "run_case"]


def run_case(folder: Path) -> list[Comparison]:
    """Compare everything that a case stores with what our model gives.

    Raises:
        DataError: `folder` holds no case, or one of an unknown kind.
    """
    import_projects("parity")
    facts = case_facts(folder)
    reader = reader_for(facts)
    if reader is not None:
        return reader.compare(folder)
    # An incomplete folder is named before an unknown kind.
    complete = all((folder / name).is_file() for name in DATA_FILES)
    case = Case(folder, DATA_FILES if complete else FILES)
    raise DataError(
        f"{folder}: no reader for a case with these settings: {', '.join(case.config)}. "
        "d2ext.parity.register_parity_reader adds one."
    )
