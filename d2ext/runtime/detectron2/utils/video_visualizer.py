"""Visualizer of predictions on video frames, with a constant colour per object."""

from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import Instances
from detectron2.utils.run_lengths import check_run_lengths

from .canvas import VisImage
from .colormap import random_color, random_colors
from .visualizer import ColorMode, Visualizer, _create_text_labels

__all__ = ["VideoVisualizer"]

_FRAMES_TO_LIVE = 8  # frames without a match
_MIN_MASK_IOU, _MIN_BOX_IOU = 0.5, 0.6


class _DetectedInstance:
    """An object of an earlier frame, its colour (RGB in [0, 1]) and its remaining lifetime."""

    __slots__ = ["bbox", "color", "label", "mask_rle", "ttl"]

    def __init__(self, label: int, bbox: Any, mask_rle: Any, color: Any, ttl: int) -> None:
        self.label = label
        self.bbox = bbox
        self.mask_rle = mask_rle
        self.color = color
        self.ttl = ttl


class VideoVisualizer:
    """Visualizer of consecutive frames; objects are matched by IoU or by ID.

    Args:
        metadata: names and colours of the classes.
        instance_mode: `ColorMode.IMAGE`, or `IMAGE_BW` for a grey background.
    """

    def __init__(self, metadata: Any, instance_mode: ColorMode = ColorMode.IMAGE) -> None:
        if instance_mode not in (ColorMode.IMAGE, ColorMode.IMAGE_BW):
            raise AssertionError(f"Other modes are not supported for videos: {instance_mode}")
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._max_num_instances = self.metadata.get("max_num_instances", 74)
        self._old_instances: list[_DetectedInstance] = []
        self._assigned_colors: dict[int, Any] = {}
        self._color_pool = random_colors(self._max_num_instances, rgb=True, maximum=1)
        self._color_idx_set = set(range(len(self._color_pool)))

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Instances) -> VisImage:
        """Draw detections.

        Args:
            frame: (H, W, 3) RGB in [0, 255].
            predictions: pred_boxes, pred_classes, scores, pred_masks (or pred_masks_rle),
                pred_keypoints; all optional. With ID, colours follow it.
        """
        visualizer = Visualizer(frame, self.metadata)
        if not len(predictions):
            return visualizer.output
        fields = {name: predictions.get(name) for name in predictions.get_fields()}
        classes = fields["pred_classes"].numpy() if "pred_classes" in fields else None
        masks = fields.get("pred_masks")
        boxes = fields["pred_boxes"].tensor.numpy() if "pred_boxes" in fields else None
        colors = self._colors(predictions, classes, boxes)
        if self._instance_mode == ColorMode.IMAGE_BW:
            visualizer.output.reset_image(
                visualizer._create_grayscale_image(
                    (masks.any(dim=0) > 0).numpy() if masks is not None else None
                )
            )
        names = self.metadata.get("thing_classes")
        visualizer.overlay_instances(
            boxes=None if masks is not None else boxes,
            masks=None if masks is None else masks.numpy(),
            labels=_create_text_labels(classes, fields.get("scores"), names),
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=0.3 if self._instance_mode == ColorMode.IMAGE_BW else 0.5,
        )
        return visualizer.output

    def _colors(self, predictions: Instances, classes: Any, boxes: Any) -> list[Any]:
        if predictions.has("ID"):
            return self._assign_colors_by_id(predictions)
        count = len(predictions)
        rles = [None] * count
        if predictions.has("pred_masks_rle"):
            rles = [check_run_lengths(rle) for rle in predictions.pred_masks_rle]
        elif predictions.has("pred_masks"):
            masks = predictions.pred_masks.numpy().astype(np.uint8)
            rles = [mask_util.encode(np.asfortranarray(mask)) for mask in masks]
        labels = [None] * count if classes is None else classes
        corners = [None] * count if boxes is None else boxes
        rows = zip(labels, corners, rles, strict=True)
        return self._assign_colors([_DetectedInstance(*row, None, _FRAMES_TO_LIVE) for row in rows])

    def draw_sem_seg(
        self, frame: np.ndarray, sem_seg: Any, area_threshold: int | None = None
    ) -> VisImage:
        """Draw semantic labels.

        Args:
            frame: (H, W, 3) RGB in [0, 255].
            sem_seg: (H, W) labels.
            area_threshold: regions of fewer pixels are not drawn.
        """
        return Visualizer(frame, self.metadata).draw_sem_seg(sem_seg, area_threshold)

    def draw_panoptic_seg_predictions(
        self,
        frame: np.ndarray,
        panoptic_seg: Any,
        segments_info: list[dict],
        area_threshold: int | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw panoptic segments; see `Visualizer.draw_panoptic_seg`."""
        return Visualizer(
            frame, self.metadata, instance_mode=self._instance_mode
        ).draw_panoptic_seg(panoptic_seg, segments_info, area_threshold, alpha)

    def _assign_colors(self, instances: list[_DetectedInstance]) -> list[Any]:
        """Assign the colours of the objects, random for new ones, and remember them."""
        overlaps = self._overlaps(instances)
        for column in range(overlaps.shape[1]):
            best = int(overlaps[:, column].argmax()) if len(overlaps) else -1
            if best >= 0 and overlaps[best, column] > 0 and instances[column].color is None:
                instances[column].color = self._old_instances[best].color
                overlaps[best] = 0
                self._old_instances[best].ttl = 0
        for instance in instances:
            if instance.color is None:
                instance.color = random_color(rgb=True, maximum=1)
        for old in self._old_instances:
            old.ttl -= 1
        self._old_instances = [o for o in self._old_instances if o.ttl > 0] + instances
        return [instance.color for instance in instances]

    def _overlaps(self, instances: list[_DetectedInstance]) -> np.ndarray:
        """Compute (remembered, seen) IoU; 0 between classes and below the threshold."""
        old = self._old_instances
        if not old or not instances:
            return np.zeros((len(old), len(instances)))
        by_mask = all(item.mask_rle is not None for item in [*old, *instances])
        if not by_mask and any(item.bbox is None for item in [*old, *instances]):
            return np.zeros((len(old), len(instances)))

        def shapes(items: list[_DetectedInstance]) -> Any:
            if by_mask:
                return [item.mask_rle for item in items]
            corners = np.array([item.bbox for item in items], dtype=float)
            return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)

        ious = np.asarray(mask_util.iou(shapes(old), shapes(instances), [0] * len(instances)))
        same = np.array([[a.label == b.label for b in instances] for a in old])
        return ious * same * (ious > (_MIN_MASK_IOU if by_mask else _MIN_BOX_IOU))

    def _assign_colors_by_id(self, instances: Instances) -> list[Any]:
        """Assign a colour to each ID, which is free again when the ID is gone."""
        gone = self._assigned_colors.keys() - set(instances.ID)
        for number in gone:
            self._color_idx_set.add(self._assigned_colors.pop(number))
        for number in instances.ID:
            if number not in self._assigned_colors:
                if not self._color_idx_set:
                    raise ValueError(f"There are more than {self._max_num_instances} objects.")
                self._assigned_colors[number] = self._color_idx_set.pop()
        return [self._color_pool[self._assigned_colors[number]] for number in instances.ID]
