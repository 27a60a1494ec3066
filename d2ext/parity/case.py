"""A reference case: inputs, weights, and the outputs of the authors' model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2ext.checkpoint import convert_official
from d2ext.checkpoint.key_matching import match
from d2ext.errors import DataError
from d2ext.parity import recipe
from d2ext.parity.tolerance import Parts, relative_error
from detectron2.structures import Boxes, Instances

SHOWN = 5
FILES = ("case.json", "entries.json", "golden.npz")
DATA_FILES = ("case.json", "golden.npz")  # of a case of data or a metric, which has no weights
DIGEST_LIMIT = 4096  # values of an output that a case stores, unless it says otherwise


@dataclass
class Comparison:
    """The comparison of one output with the authors'.

    Attributes:
        key: key of the output.
        error: the largest difference, in multiples of the case's tolerance; 1 is the limit.
        problem: the reason why the two cannot be compared, or "".
    """

    key: str
    error: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem and self.error <= 1


class Case:
    """A folder with the inputs, settings and golden outputs of a published model.

    `case.json` has settings and tolerances, `entries.json` names and shapes of the published
    checkpoint, `golden.npz` the outputs of the published model.

    Args:
        files: the required files; a case of real weights or of a data set has no `entries.json`.

    Raises:
        DataError: one of the files is missing.
    """

    def __init__(self, folder: Path, files: Sequence[str] = FILES) -> None:
        _check_files(folder, files)
        self.name = folder.name
        self.facts = case_facts(folder)
        self.entries = []
        if "entries.json" in files:
            self.entries = json.loads((folder / "entries.json").read_text(encoding="utf-8"))
        self.golden = np.load(folder / "golden.npz")
        self.config: dict[str, Any] = self.facts["config"]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shapes of the published weights, by the authors' names."""
        return {name: shape for name, shape, _ in self.entries}

    def published(self) -> dict[str, Tensor]:
        """Return the weights by the authors' names."""
        state = recipe.fill_state_dict(self.entries)
        for prefix, factor in self.facts["scale"].items():
            for name in state:
                if name.startswith(prefix):
                    state[name] = state[name] * factor
        return state

    def load(self, model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
        """Load the case's weights into a model, all of whose parameters they must have.

        Weights that the model lacks are ignored: if it needed them, its outputs would differ.

        Args:
            prefix: prepended to the case's names, for a case of a part of a model.
        Returns:
            The model's parameters and buffers by the authors' names.
        Raises:
            DataError: parameters are missing.
            RuntimeError: shapes differ.
        """
        published = self.published()
        converted = convert_official({prefix + name: value for name, value in published.items()})
        missing = match(converted, model.state_dict()).missing
        if missing:
            raise DataError(f"{self.name}: entries.json lacks {', '.join(missing[:SHOWN])} (ours)")
        model.load_state_dict(converted, strict=False)
        # Conversion renames tensors without copying them, so that identity links both names.
        ours = {id(value): name for name, value in converted.items()}
        here = dict(model.named_parameters()) | dict(model.named_buffers())
        names = {name: ours.get(id(value), "") for name, value in published.items()}
        return {name: here[own] for name, own in names.items() if own in here}

    def batch(self) -> list[dict]:
        """Return Detectron2's input dicts, in the channel order of the model, with ground truth."""
        facts = self.facts["input"]
        pairs = zip(facts["images"], facts["ground_truth"], strict=True)
        return [self._item(image, truth) for image, truth in pairs]

    def _item(self, image: Mapping[str, int], truth: Mapping[str, int]) -> dict:
        size = (image["height"], image["width"])
        pixels = recipe.image(image["seed"], *size)
        if self.config["input_format"] == "BGR":
            pixels = pixels[:, :, ::-1]
        boxes, classes = recipe.boxes(truth["seed"], *size, truth["count"], truth["num_classes"])
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_classes = torch.from_numpy(classes)
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
        return {"image": tensor, "instances": instances}

    def compare_all(self, outputs: Mapping[str, Tensor]) -> list[Comparison]:
        """Compare every output that the case stores with ours of the same name."""
        return [self.compare(key, outputs.get(key)) for key in self.facts["outputs"]]

    def compare(self, key: str, value: Tensor | None) -> Comparison:
        """Compare one output, which the case stores whole or as a digest."""
        if value is None:
            return Comparison(key, np.inf, "our model has no such output")
        own, golden = self._stored_parts(key, value.detach().cpu().numpy())
        for part in golden:
            if own[part].shape != golden[part].shape:
                return Comparison(key, np.inf, _shapes(own[part].shape, golden[part].shape))
        # Counts and indices have no tolerance: they have to be equal.
        limits = self.facts["tolerance"].get(key, "exact")
        return Comparison(key, relative_error(own, golden, limits))

    def _stored_parts(self, key: str, actual: np.ndarray) -> tuple[Parts, Parts]:
        """Return what is compared of our output, and the same of the reference's."""
        if key in self.golden:
            return {"sample": actual}, {"sample": self.golden[key]}
        shape = self.golden[f"{key}.shape"]
        if actual.shape != tuple(shape):
            return {"sample": actual}, {"sample": np.broadcast_to(np.float32(0), shape)}
        limit = self.facts.get("digest_limit", DIGEST_LIMIT)
        if isinstance(limit, dict):
            limit = limit["grad" if key.startswith("grad.") else "other"]
        digest = recipe.digest(actual, limit)
        parts = ("mean", "std", "sample")
        return digest, {part: self.golden[f"{key}.{part}"] for part in parts}


def case_facts(folder: Path) -> dict[str, Any]:
    """Read the `case.json` of a case.

    Raises:
        DataError: the file is missing.
    """
    _check_files(folder, FILES[:1])
    return json.loads((folder / FILES[0]).read_text(encoding="utf-8"))


def _check_files(folder: Path, files: Sequence[str]) -> None:
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: no reference case: {', '.join(missing)} missing")


def _shapes(own: Any, theirs: Any) -> str:
    return f"its shape is {tuple(map(int, own))}, the authors' {tuple(map(int, theirs))}"
