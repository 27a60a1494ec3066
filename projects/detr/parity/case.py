"""What all reference cases of the DETR family have in common."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import d2ext.projects.detr as project
from d2ext.checkpoint.key_matching import match
from d2ext.checkpoint.layouts import Layout
from d2ext.config import get_cfg
from d2ext.errors import DataError
from d2ext.parity import recipe
from d2ext.parity.case import Case
from d2ext.projects.detr.parity.backbones import set_backbone
from d2ext.projects.detr.parity.outputs import Outputs
from d2ext.projects.detr.parity.settings import FIXED, KEYS, WEIGHTS, Values, check_settings
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances

SHOWN = 5
ALL_STAGES = 5  # MODEL.BACKBONE.FREEZE_AT that freezes the whole backbone


class FamilyCase(Case):
    """A case of one of the family's models, in the published layout.

    Attributes:
        keys: further settings -> keys of our config, where both hold the same.
        ignored: further settings without influence on the model.
    """

    keys: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path, layout: Layout) -> None:
        super().__init__(folder)
        self.layout = layout
        check_settings(self.config, self.fixed(), (*self.keys, *self.ignored))

    def fixed(self) -> Mapping[str, Values]:
        """Return the settings with one value, or with several that mean the same."""
        return FIXED

    def cfg(self) -> CfgNode:
        """Return the config that the settings give, on the CPU."""
        cfg = get_cfg()
        project.add_config(cfg)
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
        for table, settings in (
            ({**KEYS, **self.keys}, self.config),
            (WEIGHTS, self.config.get("loss_weights", {})),
        ):
            for name in table.keys() & settings.keys():
                _merge(cfg, table[name], settings[name])
        self._set_backbone(cfg)
        self._set_input(cfg)
        self._set_detections(cfg)
        temperature = [self.config.get(f"pe_temperature{axis}", 10000.0) for axis in "HW"]
        cfg.MODEL.DETR.POSITION.TEMPERATURE = [float(each) for each in temperature]
        return cfg

    def published(self) -> dict[str, Tensor]:
        """Return the weights by the authors' names; aliases share one tensor."""
        state = super().published()
        return state | {alias: state[name] for alias, name in self.facts["aliases"].items()}

    def load(self, model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
        """Fill a model through the layout; return its parameters by the authors' names."""
        kept = {name for name in self.shapes if not self.layout.leaves_out(prefix + name)}
        names = {name: self.layout.rename(prefix + name) for name in kept}
        published = self.published()
        converted = {ours: published[name] for name, ours in names.items() if name in published}
        missing = match(converted, model.state_dict()).missing
        if missing:
            raise DataError(f"{self.name}: entries.json lacks {', '.join(missing[:SHOWN])} (ours)")
        model.load_state_dict(converted, strict=False)
        here = dict(model.named_parameters(remove_duplicate=False))
        return {name: here[ours] for name, ours in names.items() if ours in here}

    def batch(self) -> list[dict]:
        facts = self.facts["input"]
        counts, classes = facts["targets"]["count"], facts["targets"]["num_classes"]
        images = zip(facts["images"], counts, strict=True)
        return [self._image(image, count, classes) for image, count in images]

    def _image(self, facts: Mapping[str, int], count: int, num_classes: int) -> dict:
        size = facts["height"], facts["width"]
        pixels = recipe.image(facts["seed"], *size)
        if self.facts["input"]["channel_order"] == "BGR":
            pixels = pixels[:, :, ::-1]
        boxes, classes = recipe.boxes(facts["seed"], *size, count, num_classes)
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_classes = torch.from_numpy(classes)
        if self.config.get("masks"):
            instances.gt_masks = _filled(boxes, size)
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
        return {"image": tensor, "instances": instances}

    def outputs(self) -> Outputs:
        """Yield everything that the case may store."""
        raise NotImplementedError

    def stages(self) -> list[int]:
        """Return the numbers of the backbone's stages whose maps the transformer sees."""
        return [5]

    def _set_backbone(self, cfg: CfgNode) -> None:
        masks, stages = cfg.MODEL.DETR.MASK_HEAD, self.stages()
        finer = [stage for stage in range(2, stages[0]) if cfg.MODEL.MASK_ON]
        names = set_backbone(cfg, self.config, [*finer, *stages])
        cfg.MODEL.DETR.IN_FEATURES = names[len(finer) :]
        masks.IN_FEATURES = names[: len(finer)][::-1]
        masks.FREEZE_DETECTOR = bool(self.config.get("frozen_weights"))
        if not self.config.get("lr_backbone", True):
            cfg.MODEL.BACKBONE.FREEZE_AT = ALL_STAGES

    def _set_input(self, cfg: CfgNode) -> None:
        facts = self.facts["input"]
        norm = facts["normalisation"]
        cfg.INPUT.FORMAT = facts["channel_order"]
        cfg.MODEL.PIXEL_MEAN = [value * norm["divide_by"] for value in norm["mean"]]
        cfg.MODEL.PIXEL_STD = [value * norm["divide_by"] for value in norm["std"]]

    def _set_detections(self, cfg: CfgNode) -> None:
        kind = self.config["detections"]
        found = re.fullmatch(r"softmax|topk(\d+)", kind)
        if found is None:
            raise DataError(
                f"case.json: config.detections: {kind!r} is not supported, only softmax or topk "
                "and a number"
            )
        cfg.MODEL.DETR.LOSS.CLASSIFICATION = "focal" if found[1] else "softmax"
        if found[1]:
            cfg.TEST.DETECTIONS_PER_IMAGE = int(found[1])


def _merge(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key, integers becoming floats where the key holds a float."""
    node = cfg
    *sections, leaf = key.split(".")
    for section in sections:
        node = node[section]
    node[leaf] = type(node[leaf])(value)


def _filled(boxes: np.ndarray, size: tuple[int, int]) -> BitMasks:
    """Return the pixels inside each box as its mask."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, np.rint(boxes).astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    return BitMasks(masks)
