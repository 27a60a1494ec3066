"""Cases whose settings are Detectron2's own config keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2ext.config import get_cfg
from d2ext.errors import DataError
from d2ext.parity import recipe
from d2ext.parity.case import Case
from d2ext.parity.settings import check_known
from detectron2.config import CfgNode
from detectron2.structures import (
    BitMasks,
    Boxes,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)

IGNORED_COLUMNS = 8  # of semantic ground truth
DESCRIBED = ("official_config", "words", "changed_from_official", "settings")


class Detectron2Case(Case):
    """A case of one of Detectron2's models."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.facts["tolerance"] = self.facts["tolerance"]["allow"]
        check_known("config", self.config, DESCRIBED)
        self.settings: dict[str, Any] = self.config["settings"]
        self.rotated = self.settings.get("MODEL.PROPOSAL_GENERATOR", {}).get("NAME") == "RRPN"
        heads = ("MODEL.ROI_HEADS", "MODEL.RETINANET", "MODEL.SEM_SEG_HEAD")
        found = (self.settings[name] for name in heads if self.settings.get(name))
        head: dict[str, Any] = next(found, {})
        # Proposal networks ignore classes.
        self.num_classes: int = head.get("NUM_CLASSES", 1)

    def cfg(self) -> CfgNode:
        """Build the config of the settings, on the CPU."""
        cfg = get_cfg()
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.MASK_ON = "MODEL.ROI_MASK_HEAD" in self.settings
        cfg.MODEL.KEYPOINT_ON = "MODEL.ROI_KEYPOINT_HEAD" in self.settings
        changed = leaves(self.config.get("changed_from_official", {}))
        for path, leaf in (changed | leaves(self.settings)).items():
            merge_setting(cfg, path, leaf)
        return cfg

    def batch(self, masks: str = "polygon") -> list[dict]:
        """Return Detectron2's input dicts with ground truth.

        Masks are the boxes, as polygons or as "bitmask". Keypoints and semantic classes follow
        from the boxes, too.
        """
        return [self._input(facts, masks) for facts in self.facts["input"]["images"]]

    def _input(self, facts: dict[str, int], masks: str) -> dict:
        size = (facts["height"], facts["width"])
        pixels = recipe.image(facts["seed"], *size)
        boxes, classes = recipe.boxes(facts["seed"], *size, facts["gt"], self.num_classes)
        truth = Instances(size)
        truth.gt_boxes = self._boxes(torch.from_numpy(boxes))
        truth.gt_classes = torch.from_numpy(classes)
        truth.gt_masks = _polygons(boxes) if masks == "polygon" else _bits(boxes, size)
        if "MODEL.ROI_KEYPOINT_HEAD" in self.settings:
            count = self.settings["MODEL.ROI_KEYPOINT_HEAD"]["NUM_KEYPOINTS"]
            truth.gt_keypoints = _keypoints(boxes, count)
        item = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()}
        wanted = {name: facts.get(f"out_{name}", facts[name]) for name in ("height", "width")}
        if "MODEL.SEM_SEG_HEAD" in self.settings:
            item["sem_seg"] = _semantics(_bits(boxes, size), self.settings["MODEL.SEM_SEG_HEAD"])
        return {**item, "instances": truth, **wanted}

    def _boxes(self, xyxy: Tensor) -> Boxes | RotatedBoxes:
        if not self.rotated:
            return Boxes(xyxy)
        centres, sizes = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
        angles = (37.0 * torch.arange(len(xyxy))) % 180 - 90
        return RotatedBoxes(torch.cat([centres, sizes, angles[:, None]], dim=1))

    def golden_boxes(self, prefix: str) -> Boxes | RotatedBoxes:
        """Return the boxes of the authors' model."""
        tensor = torch.from_numpy(self.golden[f"{prefix}.boxes"])
        return RotatedBoxes(tensor) if self.rotated else Boxes(tensor)


def merge_setting(cfg: CfgNode, path: str, value: Any) -> None:
    """Set a key of the config, in the type that it has there.

    JSON has neither tuples nor floats without a fraction.

    Raises:
        DataError: there is no such key.
    """
    *sections, leaf = path.split(".")
    node = cfg
    for section in sections:
        node = node.get(section, CfgNode())
    if leaf not in node:
        raise DataError(f"case.json: config.settings.{path}: not known here")
    if isinstance(node[leaf], float | tuple):
        value = type(node[leaf])(value)
    node[leaf] = value


def leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested settings by their dotted paths."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def _polygons(boxes: np.ndarray) -> PolygonMasks:
    corners = boxes.astype(np.float64)[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    return PolygonMasks([[polygon] for polygon in corners])


def _bits(boxes: np.ndarray, size: tuple[int, int]) -> BitMasks:
    left, top, right, bottom = np.rint(boxes).T[:, :, None, None]
    y, x = np.mgrid[: size[0], : size[1]]
    return BitMasks(torch.from_numpy((x >= left) & (x < right) & (y >= top) & (y < bottom)))


def _keypoints(boxes: np.ndarray, count: int) -> Keypoints:
    """Spread keypoints over each box; visible, hidden and unlabelled ones take turns."""
    k = np.arange(count)
    along = np.stack(((k + 0.5) / count, (5 * k % count + 0.5) / count), axis=1)
    places = boxes[:, None, :2] + along * (boxes[:, None, 2:] - boxes[:, None, :2])
    visibility = np.broadcast_to((2 - k % 3)[:, None], (len(boxes), count, 1))
    return Keypoints(np.concatenate((places, visibility), axis=2).astype(np.float32))


def _semantics(masks: BitMasks, head: dict[str, Any]) -> Tensor:
    """Paint the boxes in order, each with a class of its own; the left columns are ignored."""
    labels = torch.zeros(masks.image_size, dtype=torch.int64)
    for index, mask in enumerate(masks.tensor):
        labels[mask] = (1 + 7 * index) % head["NUM_CLASSES"]
    labels[:, :IGNORED_COLUMNS] = head["IGNORE_VALUE"]
    return labels
