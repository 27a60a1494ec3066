"""Cases whose settings are Detectron2's own config keys."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2ext.config import get_cfg
from d2ext.parity import recipe
from d2ext.parity.case import Case, Comparison
from detectron2.config import CfgNode
from detectron2.structures import (
    BitMasks,
    Boxes,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)

DIGEST_LIMIT = 4096


class Detectron2Case(Case):
    """A case of one of Detectron2's models.

    A tolerance may also be a distance of whole gradients, or a share of the pixels of masks.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.facts["digest_limit"] = {"grad": DIGEST_LIMIT, "other": DIGEST_LIMIT}
        self.facts["tolerance"] = self.facts["tolerance"]["allow"]
        self.settings: dict[str, Any] = self.config["settings"]
        self.rotated = self.settings.get("MODEL.PROPOSAL_GENERATOR", {}).get("NAME") == "RRPN"
        heads = ("MODEL.ROI_HEADS", "MODEL.RETINANET", "MODEL.SEM_SEG_HEAD")
        head = next(self.settings[name] for name in heads if self.settings.get(name))
        self.num_classes: int = head["NUM_CLASSES"]

    def cfg(self) -> CfgNode:
        """Build the config of the settings, on the CPU."""
        cfg = get_cfg()
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.MASK_ON = "MODEL.ROI_MASK_HEAD" in self.settings
        cfg.MODEL.KEYPOINT_ON = "MODEL.ROI_KEYPOINT_HEAD" in self.settings
        for key, value in self.settings.items():
            for path, leaf in _leaves(key, value):
                cfg.merge_from_list([path, leaf])
        return cfg

    def batch(self, masks: str = "polygon") -> list[dict]:
        """Return Detectron2's input dicts with ground truth.

        Masks are the boxes, as polygons or as "bitmask". Keypoints lie on the boxes' diagonals.
        The semantic class of a pixel follows from the class of the last box that covers it, or is
        0.
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
            num_classes = self.settings["MODEL.SEM_SEG_HEAD"]["NUM_CLASSES"]
            item["sem_seg"] = _semantics(_bits(boxes, size), classes, num_classes)
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

    def compare(self, key: str, value: Tensor | None) -> Comparison:
        limits = self.facts["tolerance"].get(key, {})
        if value is None or not {"rel_l2", "fraction_of_sample_that_may_differ"} & limits.keys():
            return super().compare(key, value)
        digest = recipe.digest(value.detach().cpu().numpy(), DIGEST_LIMIT)
        golden = {name: self.golden[f"{key}.{name}"] for name in digest}
        if tuple(digest["shape"]) != tuple(golden["shape"]):
            return Comparison(key, np.inf, f"its shape is {digest['shape']}, not {golden['shape']}")
        error = _gradient_error if "rel_l2" in limits else _mask_error
        return Comparison(key, float(np.nan_to_num(error(digest, golden, limits), nan=np.inf)))


def _gradient_error(own: dict, golden: dict, limits: dict[str, float]) -> float:
    distance = np.linalg.norm(own["sample"] - golden["sample"])
    return float(distance / (limits["rel_l2"] * np.linalg.norm(golden["sample"])))


def _mask_error(own: dict, golden: dict, limits: dict[str, float]) -> float:
    differ = np.mean(own["sample"] != golden["sample"])
    return max(
        differ / limits["fraction_of_sample_that_may_differ"],
        abs(own["mean"] - golden["mean"]) / limits["mean_atol"],
    )


def _leaves(key: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(key, value)]
    return [leaf for name, part in value.items() for leaf in _leaves(f"{key}.{name}", part)]


def _polygons(boxes: np.ndarray) -> PolygonMasks:
    corners = boxes.astype(np.float64)[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    return PolygonMasks([[polygon] for polygon in corners])


def _bits(boxes: np.ndarray, size: tuple[int, int]) -> BitMasks:
    left, top, right, bottom = np.rint(boxes).T[:, :, None, None]
    y, x = np.mgrid[: size[0], : size[1]]
    return BitMasks(torch.from_numpy((x >= left) & (x < right) & (y >= top) & (y < bottom)))


def _keypoints(boxes: np.ndarray, count: int) -> Keypoints:
    """Place visible keypoints from the first corner of each box to the last."""
    along = np.linspace(0.05, 0.95, count, dtype=np.float32)[None, :, None]
    places = boxes[:, None, :2] + along * (boxes[:, None, 2:] - boxes[:, None, :2])
    return Keypoints(np.concatenate([places, np.full_like(places[:, :, :1], 2)], axis=2))


def _semantics(masks: BitMasks, classes: np.ndarray, num_classes: int) -> Tensor:
    labels = torch.zeros(masks.image_size, dtype=torch.int64)
    for mask, label in zip(masks.tensor, classes.tolist(), strict=True):
        labels[mask] = label % (num_classes - 1) + 1
    return labels
