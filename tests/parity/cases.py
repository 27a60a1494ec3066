"""Reference cases: made-up weights and images, and what the authors' models make of them.

A case is a folder: `case.json` (settings, input, tolerances), `entries.json` (names and shapes of
the published checkpoint), `golden.npz` (its outputs).
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2ext.checkpoint import convert_official
from d2ext.parity import recipe
from detectron2.structures import Boxes, Instances, pairwise_iou

FOLDER = Path(__file__).parent


class Case:
    """One case: `config`, inputs, weights by our names, and the comparison with the goldens."""

    def __init__(self, name: str) -> None:
        folder = FOLDER / name
        self.facts = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        self.entries = json.loads((folder / "entries.json").read_text(encoding="utf-8"))
        self.golden = np.load(folder / "golden.npz")
        self.config = self.facts["config"]

    def published(self) -> dict[str, Tensor]:
        """The state dict in the authors' layout."""
        state = recipe.fill_state_dict(self.entries)
        for prefix, factor in self.facts["scale"].items():
            for name in state:
                if name.startswith(prefix):
                    state[name] = state[name] * factor
        return state

    def load(self, model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
        """Fill a model; its parameters must be those of the published layout, all of them.

        Args:
            prefix: what the case's names lack of the whole model's.
        Returns:
            The model's parameters and buffers by the authors' names.
        """
        published = self.published()
        renamed = convert_official({prefix + name: value for name, value in published.items()})
        missing, unexpected = model.load_state_dict(renamed, strict=False)
        assert not missing
        assert not unexpected
        ours = {id(value): name for name, value in renamed.items()}
        here = dict(model.named_parameters()) | dict(model.named_buffers())
        return {name: here[ours[id(value)]] for name, value in published.items()}

    def batch(self) -> list[dict]:
        """Detectron2's input dicts, in the channel order of the model, with ground truth."""
        facts = self.facts["input"]
        batch = []
        for image, truth in zip(facts["images"], facts["ground_truth"], strict=True):
            size = (image["height"], image["width"])
            pixels = recipe.image(image["seed"], *size)
            if self.config["input_format"] == "BGR":
                pixels = pixels[:, :, ::-1]
            boxes, classes = recipe.boxes(
                truth["seed"], *size, truth["count"], truth["num_classes"]
            )
            instances = Instances(size)
            instances.gt_boxes = Boxes(torch.from_numpy(boxes))
            instances.gt_classes = torch.from_numpy(classes)
            tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
            batch.append({"image": tensor, "instances": instances})
        return batch

    def weighted_mean(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The scalar that a case of features is differentiated from."""
        terms = []
        for name, output in outputs.items():
            shape = tuple(output.shape)
            weight = recipe.fill(f"weight.{name}", shape) * np.sqrt(np.prod(shape[1:]))
            terms.append((output * torch.from_numpy(weight)).mean())
        return torch.stack(terms).sum()

    def check(self, key: str, value: Tensor) -> None:
        """Compare with the golden `key`, stored whole or as a digest."""
        limits = self.facts["tolerance"][key]
        actual = value.detach().float().cpu().numpy()
        if key in self.golden:
            _compare(key, actual, self.golden[key], limits)
            return
        limit = self.facts["digest_limit"]["grad" if key.startswith("grad.") else "other"]
        digest = recipe.digest(actual, limit)
        assert tuple(digest["shape"]) == tuple(self.golden[f"{key}.shape"]), key
        _compare(f"{key}.mean", digest["mean"], self.golden[f"{key}.mean"], limits)
        _compare(f"{key}.std", digest["std"], self.golden[f"{key}.std"], limits)
        _compare(key, digest["sample"], self.golden[f"{key}.sample"], limits)

    def check_gradients(self, parameters: Mapping[str, Tensor]) -> None:
        """Compare `.grad` with every golden "grad.*"; the names are the authors'."""
        names = [name for name in self.facts["tolerance"] if name.startswith("grad.")]
        assert names
        for name in names:
            gradient = parameters[name.removeprefix("grad.")].grad
            assert gradient is not None, name
            self.check(name, gradient)

    def check_detections(self, prefix: str, found: Instances) -> None:
        """Compare as a set: each golden box has one of its class, place and score."""
        boxes = Boxes(torch.from_numpy(self.golden[f"{prefix}.boxes"]))
        scores = torch.from_numpy(self.golden[f"{prefix}.scores"])
        classes = torch.from_numpy(self.golden[f"{prefix}.classes"])
        assert len(found) == len(boxes)
        same = classes[:, None] == found.pred_classes
        # Clipped boxes of a class can coincide; their scores tell them apart.
        difference = (scores[:, None] - found.scores).abs()
        best = (pairwise_iou(boxes, found.pred_boxes) - difference + 10 * same).argmax(dim=1)
        assert len(best.unique()) == len(best)
        self.check(f"{prefix}.boxes", found.pred_boxes.tensor[best])
        self.check(f"{prefix}.scores", found.scores[best])
        assert torch.equal(found.pred_classes[best], classes)


def _compare(key: str, actual: np.ndarray, golden: np.ndarray, limits: Mapping[str, float]) -> None:
    np.testing.assert_allclose(
        actual, golden, rtol=limits["rtol"], atol=limits["atol"], err_msg=key
    )


def record(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """A dict in which a copy of each module's latest output appears under its name."""
    outputs: dict[str, Any] = {}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: deepcopy(output)})
        )
    return outputs
