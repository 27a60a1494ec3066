"""The dataset mapper: six images with photometric distortion, calibration, boxes in range.

Source: Wang et al., "DETR3D", 2021, arXiv:2110.06922, section 4.1; the distortion is that of Liu et
al., "SSD", 2016, arXiv:1512.02325.
"""

import random
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from d2ext.data.mappers import register_mapper
from d2ext.data.mappers.registry import Items, Mapper, Mode
from d2ext.errors import DataError
from d2ext.projects.detr3d.data.geometry import Array
from d2ext.projects.detr3d.data.samples import Item
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image
from detectron2.structures import Instances

NAME = "detr3d"
REDRAWS = 20  # of samples without boxes
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18.0


def training_boxes(item: Item) -> tuple[Array, np.ndarray]:
    """Return the boxes with points, (n, 9), and their labels, -1 for other categories.

    Unknown velocities become 0, as the authors train.
    """
    kept = item["points"] > 0
    boxes = item["boxes_3d"][kept].copy()
    boxes[np.isnan(boxes[:, 7]), 7:] = 0
    return boxes, item["labels"][kept]


def learned_boxes(item: Item, point_range: Array) -> tuple[Array, np.ndarray]:
    """Return the boxes of the ten classes whose centres lie inside the x, y range; yaw wrapped."""
    boxes, labels = training_boxes(item)
    inside = (boxes[:, :2] > point_range[:2]) & (boxes[:, :2] < point_range[3:5])
    kept = inside.all(axis=1) & (labels >= 0)
    boxes = boxes[kept]
    boxes[:, 6] = (boxes[:, 6] + np.pi) % (2 * np.pi) - np.pi
    return boxes, labels[kept]


@dataclass(frozen=True)
class CameraMapper:
    """Maps a sample to what `DETR3D` takes; see `register_mapper`.

    Attributes:
        image_format: "RGB" or "BGR".
        point_range: see `learned_boxes`.
        distort: distort the colours at random.
        annotated: add "instances" with `gt_boxes_3d` and `gt_classes`.
        items: the training set; samples without boxes are replaced by others of it.
    """

    image_format: str
    point_range: tuple[float, ...]
    distort: bool
    annotated: bool
    items: Items = ()

    def __call__(self, item: Item) -> Item:
        boxes, labels = learned_boxes(item, np.array(self.point_range))
        for _ in range(REDRAWS if len(self.items) else 0):
            if len(labels):
                break
            item = self.items[random.randrange(len(self.items))]
            boxes, labels = learned_boxes(item, np.array(self.point_range))
        images = [self._read(path) for path in item["cameras"]]
        sample = {
            **{key: item[key] for key in ("file_name", "image_id", "height", "width", "cameras")},
            "image": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            "lidar2img": torch.from_numpy(item["lidar2img"]),
        }
        if self.annotated:
            sample["instances"] = _instances(sample["image"].shape[-2:], boxes, labels)
        return sample

    def _read(self, path: str) -> np.ndarray:
        try:
            image = read_image(path, format="BGR").astype(np.float32)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: the image cannot be used: {error}") from error
        image = distort_colours(image) if self.distort else image
        return image if self.image_format == "BGR" else np.ascontiguousarray(image[..., ::-1])


def build_camera_mapper(cfg: CfgNode, mode: Mode, items: Items) -> Mapper:
    """Build the mapper of `MODEL.DETR3D`."""
    return CameraMapper(
        image_format=cfg.INPUT.FORMAT,
        point_range=tuple(cfg.MODEL.DETR3D.POINT_RANGE),
        distort=mode == "train" and cfg.MODEL.DETR3D.DISTORT_COLOURS,
        annotated=mode != "test",
        items=items,
    )


def distort_colours(image: np.ndarray) -> np.ndarray:
    """Change brightness, contrast, saturation, hue and the order of channels, each at random.

    Args:
        image: (H, W, 3) BGR float32 in 0..255.
    """
    if _heads():
        image = image + random.uniform(-BRIGHTNESS, BRIGHTNESS)
    contrast_first = _heads()
    if contrast_first and _heads():
        image = image * random.uniform(*CONTRAST)
    image = _distort_hsv(image.astype(np.float32))
    if not contrast_first and _heads():
        image = image * random.uniform(*CONTRAST)
    if _heads():
        image = image[..., random.sample(range(3), 3)]
    return np.ascontiguousarray(image, dtype=np.float32)


def _distort_hsv(image: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if _heads():
        hsv[..., 1] *= random.uniform(*SATURATION)
    if _heads():
        hsv[..., 0] = (hsv[..., 0] + random.uniform(-HUE, HUE)) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _heads() -> bool:
    return random.random() < 0.5


def _instances(size: tuple[int, int], boxes: Array, labels: np.ndarray) -> Instances:
    instances = Instances(tuple(size))
    instances.gt_boxes_3d = torch.from_numpy(boxes).float()
    instances.gt_classes = torch.from_numpy(labels)
    return instances


register_mapper(NAME, build_camera_mapper)
