"""Proof that the DETR family gives its authors' numbers, on the reference cases."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from d2ext.checkpoint.layouts import Layout
from d2ext.errors import DataError
from d2ext.parity.readers import register_parity_reader
from d2ext.projects.detr import deformable_layouts
from d2ext.projects.detr import single_scale_layouts as layouts
from d2ext.projects.detr.parity.case import FamilyCase
from d2ext.projects.detr.parity.multi_scale import MultiScaleCase
from d2ext.projects.detr.parity.single_scale import SingleScaleCase

# The reader of a case, by the layout of its weights.
READERS: dict[Layout, type[FamilyCase]] = {
    layouts.DETR: SingleScaleCase,
    layouts.CONDITIONAL_DETR: SingleScaleCase,
    layouts.DAB_DETR: SingleScaleCase,
    deformable_layouts.DEFORMABLE_DETR: MultiScaleCase,
    deformable_layouts.DAB_DEFORMABLE_DETR: MultiScaleCase,
    deformable_layouts.DINO: MultiScaleCase,
}


def read_case(folder: Path) -> FamilyCase:
    """Return the reader of the case in `folder`.

    Raises:
        DataError: its weights are in none of the family's layouts.
    """
    entries = json.loads((folder / "entries.json").read_text(encoding="utf-8"))
    names = {name: shape for name, shape, _ in entries}
    for layout, reader in READERS.items():
        if layout.recognise(names):
            return reader(folder, layout)
    raise DataError(f"{folder}: the names in entries.json are of no known layout of the family")


def _recognises(facts: dict[str, Any]) -> bool:
    return {"enc_layers", "dec_layers", "set_cost_giou"} <= facts.get("config", {}).keys()


def outputs(case: FamilyCase) -> dict[str, Tensor]:
    """Compute everything that a case of the family stores, by its keys."""
    return dict(case.outputs())


register_parity_reader(_recognises, outputs, read=read_case)
