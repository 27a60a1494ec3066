"""An image with its annotations, and how annotations follow a geometric transform."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from d2ext.data.formats.corners import corners_of
from d2ext.data.formats.dataset_split import Item
from d2ext.data.image_reading import read_8_bit_image, read_image
from d2ext.data.mask_validity import decode_run_lengths
from d2ext.data.segment_maps import (
    label_map,
    position_map,
    read_segment_ids,
    segment_annotations,
)
from detectron2.data import transforms as T
from detectron2.data.detection_utils import check_image_size
from detectron2.structures import BoxMode


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its annotations. The arrays may be shared: never write into them.

    Attributes:
        image: (H, W, C) uint8.
        annotations: Detectron2's; "bbox" is XYXY or XYWHA in pixels as "bbox_mode" says,
            "segmentation" polygons or an (H, W) mask, "keypoints" (K, 3).
        sem_seg: (H, W) uint8, the class of each pixel.
    """

    image: np.ndarray
    annotations: list[Item]
    sem_seg: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class AnnotationTransform:
    """The geometric transform of annotations that belong to a transformed image.

    Args:
        ignore_value: the semantic label of pixels that a transform uncovers.
        keypoint_flips: index of each keypoint's mirror partner; None for data without keypoints.
        min_visible: drop objects that keep a smaller share of their box inside the image.
        mirrors: augmentations that combine images may mirror them.
    """

    ignore_value: int = 255
    keypoint_flips: Sequence[int] | None = None
    min_visible: float = 0.0
    mirrors: bool = True

    def augment(
        self, annotated: AnnotatedImage, augmentations: T.AugmentationList
    ) -> tuple[AnnotatedImage, T.TransformList]:
        """Apply random augmentations; return the result and the transforms that were drawn."""
        given = T.AugInput(annotated.image, sem_seg=self._shifted(annotated.sem_seg, -1))
        transforms = augmentations(given)
        transformed = AnnotatedImage(given.image, [], self._shifted(given.sem_seg, 1))
        return replace(
            transformed, annotations=self._all(annotated, transforms, transformed.size)
        ), transforms

    def apply(self, annotated: AnnotatedImage, *transforms: T.Transform) -> AnnotatedImage:
        """Apply fixed transforms."""
        return self.augment(annotated, T.AugmentationList(transforms))[0]

    def _shifted(self, labels: np.ndarray | None, sign: int) -> np.ndarray | None:
        """Shift labels to make `ignore_value` 0, which transforms fill with; or shift them back."""
        return None if labels is None else labels + np.uint8(sign * self.ignore_value % 256)

    def _all(
        self, annotated: AnnotatedImage, transforms: T.TransformList, size: tuple[int, int]
    ) -> list[Item]:
        transformed = [self._annotation(item, transforms, size) for item in annotated.annotations]
        return [annotation for annotation in transformed if annotation is not None]

    def _annotation(
        self, annotation: Item, transforms: T.TransformList, size: tuple[int, int]
    ) -> Item | None:
        """Transform one object; return None if too little of it is left in the image."""
        rotated = annotation["bbox_mode"] == BoxMode.XYWHA_ABS
        box = (_rotated_box if rotated else _box)(annotation, transforms)
        inside, visible = (_rotated_visible if rotated else _visible)(box, size)
        # Stuff has no shape that a crop could spoil.
        if visible < self.min_visible and annotation.get("isthing", True):
            return None
        annotation = {**annotation, "bbox": inside}
        if not rotated:
            annotation["bbox_mode"] = BoxMode.XYXY_ABS
        if "segmentation" in annotation:
            annotation["segmentation"] = _segmentation(annotation["segmentation"], transforms)
        if "keypoints" in annotation:
            points = _keypoints(annotation["keypoints"], transforms, size, self.keypoint_flips)
            annotation["keypoints"] = points
        return annotation


def read_annotated_image(item: Item, image_format: str, ignore_value: int = 255) -> AnnotatedImage:
    """Read the image and labels that one of Detectron2's dicts names; fill in width and height.

    The segments of panoptic data become annotations with masks, and semantic labels.

    Args:
        item: one of Detectron2's dicts.
        image_format: see `detectron2.data.detection_utils.read_image`.
        ignore_value: semantic label of pixels without a segment, of panoptic data.
    Raises:
        OSError: a file is missing or cannot be read.
        SizeMismatchError: the image is not of the size that the dict says.
    """
    image = read_image(item["file_name"], format=image_format)
    check_image_size(item, image)
    if "pan_seg_file_name" in item:
        segments = item["segments_info"]
        positions = position_map(read_segment_ids(item["pan_seg_file_name"]), segments)
        pixels = label_map(positions, segments, ignore_value)
        return AnnotatedImage(image, segment_annotations(positions, segments), pixels)
    labels = item.get("sem_seg_file_name")
    sem_seg = None if labels is None else read_8_bit_image(labels, "L").squeeze(2)
    return AnnotatedImage(image, item.get("annotations", []), sem_seg)


def transform_rotated_boxes(transforms: T.Transform, boxes: np.ndarray) -> np.ndarray:
    """Apply an affine transform of the image to rotated boxes.

    Uneven scaling turns a rectangle into a parallelogram. The box then keeps the lengths of its
    sides and the direction of its height, as in Detectron2's `RotatedBoxes.scale`.

    Args:
        transforms: one or several, affine in pixel coordinates.
        boxes: (N, 5) XYWHA: pixels and degrees, counter-clockwise as seen on screen.
    Returns:
        (N, 5) float64, angles in [-180, 180].
    """
    boxes = np.asarray(boxes, dtype=float)
    centre, (width, height), angle = boxes[:, :2], boxes[:, 2:4].T, np.deg2rad(boxes[:, 4])
    across = np.stack([np.cos(angle), -np.sin(angle)], axis=1) * width[:, None]
    down = np.stack([np.sin(angle), np.cos(angle)], axis=1) * height[:, None]
    points = np.concatenate([centre, centre + across, centre + down])
    centre, right, bottom = np.split(np.asarray(transforms.apply_coords(points)), 3)
    across, down = right - centre, bottom - centre
    degrees = np.rad2deg(np.arctan2(down[:, 0], down[:, 1]))
    sides = np.hypot(*across.T), np.hypot(*down.T)
    return np.column_stack([centre, *sides, degrees])


def upright_box(annotation: Item) -> np.ndarray:
    """Return the (4,) XYXY box of an annotation, or the box that encloses a rotated one."""
    if annotation["bbox_mode"] != BoxMode.XYWHA_ABS:
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        return np.asarray(box, dtype=float)
    corners = np.reshape(corners_of(annotation["bbox"]), (4, 2))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def is_mirrored(transforms: T.Transform) -> bool:
    """Return true if a transform mirrors the image."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    origin, x, y = np.asarray(transforms.apply_coords(corners))
    return bool(np.linalg.det(np.stack([x - origin, y - origin])) < 0)


def _box(annotation: Item, transforms: T.TransformList) -> np.ndarray:
    """Return the transformed (4,) XYXY box, unclipped."""
    return transforms.apply_box(upright_box(annotation)[None])[0]


def _rotated_box(annotation: Item, transforms: T.TransformList) -> np.ndarray:
    return transform_rotated_boxes(transforms, np.array([annotation["bbox"]]))[0]


def _visible(box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Clip a box to the image; return it and the share of its area that is left."""
    height, width = size
    inside = np.minimum(box.clip(min=0), [width, height, width, height])
    area = (box[2] - box[0]) * (box[3] - box[1])
    kept = (inside[2] - inside[0]) * (inside[3] - inside[1])
    return inside, kept / area if area > 0 else 1.0


def _rotated_visible(box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Return the box unclipped (clipping would rotate it) and its share inside the image."""
    height, width = size
    image = ((width / 2, height / 2), (width, height), 0.0)
    # OpenCV's angles grow clockwise.
    found, corners = cv2.rotatedRectangleIntersection(
        (tuple(box[:2]), tuple(box[2:4]), -float(box[4])), image
    )
    if found == cv2.INTERSECT_NONE or corners is None:
        return box, 0.0
    area = box[2] * box[3]
    return box, cv2.contourArea(cv2.convexHull(corners)) / area if area > 0 else 1.0


def _segmentation(segmentation: Any, transforms: T.TransformList) -> Any:
    """Transform a segmentation: polygons stay polygons, run lengths and masks become masks."""
    if isinstance(segmentation, list):
        corners = [np.asarray(polygon, dtype=float).reshape(-1, 2) for polygon in segmentation]
        return [polygon.reshape(-1) for polygon in transforms.apply_polygons(corners)]
    mask = decode_run_lengths(segmentation) if isinstance(segmentation, dict) else segmentation
    return transforms.apply_segmentation(mask)


def _keypoints(
    keypoints: Any,
    transforms: T.TransformList,
    size: tuple[int, int],
    flips: Sequence[int] | None,
) -> np.ndarray:
    """Transform (K, 3) keypoints x, y, visibility; points outside become unlabelled (0, 0, 0)."""
    points = np.array(keypoints, dtype=float).reshape(-1, 3)
    points[:, :2] = transforms.apply_coords(points[:, :2])
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= np.array(size[::-1]))).all(axis=1)
    points[~inside | (points[:, 2] == 0)] = 0
    if flips is not None and is_mirrored(transforms):
        points = points[np.asarray(flips)]
    return points
