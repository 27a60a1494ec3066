"""Visualizer of detections, annotations and segmentations on images, by matplotlib.

The style may change; for another one use the primitives (`draw_box`, `draw_text`, ...).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, unique
from typing import Any

import matplotlib.colors as mplc
import numpy as np
import torch
from PIL import Image

from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import BitMasks, BoxMode, Instances, Keypoints, PolygonMasks

from .canvas import _SMALL_OBJECT_AREA_THRESH, Canvas, Color, VisImage
from .colormap import random_color
from .file_io import PathManager
from .generic_mask import GenericMask

__all__ = ["ColorMode", "GenericMask", "VisImage", "Visualizer"]

_KEYPOINT_THRESHOLD = 0.05
_OFF_WHITE = (1.0, 1.0, 240.0 / 255)
_RED = (1.0, 0.0, 0.0)


@unique
class ColorMode(Enum):
    """Colouring of instances."""

    IMAGE = 0
    """A random colour for each, on the image."""
    SEGMENTATION = 1
    """The same colour for those of a class."""
    IMAGE_BW = 2
    """A random colour for each, on a grey image that keeps its colours inside masks."""


def _keypoints_of(annotations: Sequence[dict]) -> np.ndarray | None:
    """Return (N, K, 3) keypoints, with unlabelled ones (0) where an object has none or too few."""
    points = [np.asarray(item.get("keypoints") or ()).reshape(-1, 3) for item in annotations]
    most = max(map(len, points))
    padded = [np.pad(each, ((0, most - len(each)), (0, 0))) for each in points]
    return np.stack(padded) if most else None


def _create_text_labels(
    classes: Sequence[int] | None,
    scores: Sequence[float] | None,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[bool] | None = None,
) -> list[str] | None:
    """Format class (by name if known), score in percent and "|crowd" of each instance."""
    if classes is None and scores is None:
        return None
    count = len(classes if classes is not None else scores)  # type: ignore[arg-type]
    parts: list[list[str]] = [[] for _ in range(count)]
    for index, words in enumerate(parts):
        if classes is not None:
            words.append(class_names[classes[index]] if class_names else str(classes[index]))
        if scores is not None:
            words.append(f"{scores[index] * 100:.0f}%")
    labels = [" ".join(words) for words in parts]
    if is_crowd is None:
        return labels
    return [
        f"{text}|crowd" if crowd else text for text, crowd in zip(labels, is_crowd, strict=True)
    ]


class _PanopticPrediction:
    """Panoptic segments as masks, the largest first.

    Args:
        panoptic_seg: (H, W) integer ids of segments.
        segments_info: "id", "category_id" and "isthing" per segment; None if an id is
            category * metadata.label_divisor + number, and -1 no segment.
    """

    def __init__(
        self,
        panoptic_seg: torch.Tensor,
        segments_info: list[dict] | None,
        metadata: Metadata | None = None,
    ) -> None:
        self._ids = panoptic_seg.cpu().numpy()
        found, areas = np.unique(self._ids, return_counts=True)
        pixels = {int(i): float(area) for i, area in zip(found, areas, strict=True)}
        if segments_info is None:
            segments_info = _segments_by_divisor(list(pixels), metadata)
        present = [
            {**info, "area": pixels[i]} for info in segments_info if (i := info["id"]) in pixels
        ]
        self._segments = sorted(present, key=lambda info: -info["area"])

    def non_empty_mask(self) -> np.ndarray:
        """Return (H, W) bool: the pixels of any segment."""
        return np.isin(self._ids, [info["id"] for info in self._segments])

    def semantic_masks(self) -> Iterator[tuple[np.ndarray, dict]]:
        """Yield (H, W) bool and the facts, with the "area" in pixels, of each segment of stuff."""
        return self._masks(things=False)

    def instance_masks(self) -> Iterator[tuple[np.ndarray, dict]]:
        """Yield (H, W) bool and the facts, with the "area" in pixels, of each thing."""
        return self._masks(things=True)

    def _masks(self, things: bool) -> Iterator[tuple[np.ndarray, dict]]:
        for info in self._segments:
            if bool(info["isthing"]) == things:
                yield self._ids == info["id"], info


def _segments_by_divisor(ids: list[int], metadata: Any) -> list[dict]:
    things = set(metadata.thing_dataset_id_to_contiguous_id.values())
    found = [(i, i // metadata.label_divisor) for i in ids if i >= 0]
    return [{"id": i, "category_id": c, "isthing": c in things} for i, c in found]


class Visualizer(Canvas):
    """Visualizer of one image; every method returns the current `VisImage`.

    Args:
        img_rgb: (H, W, 3) RGB in [0, 255].
        metadata: metadata of the dataset: class names and colours, keypoint names and connections.
        scale: size of the drawing relative to the image.
        instance_mode: colouring of instances.
        font_size_scale: size of the text relative to the default.
    """

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ) -> None:
        super().__init__(img_rgb, scale, font_size_scale)
        self.metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        self.cpu_device = torch.device("cpu")
        self._instance_mode = instance_mode
        self.keypoint_threshold = _KEYPOINT_THRESHOLD

    def draw_instance_predictions(self, predictions: Instances, jittering: bool = True) -> VisImage:
        """Draw detections.

        Args:
            predictions: in the image's pixels, with any of pred_boxes, pred_classes, scores,
                pred_masks or pred_masks_rle, and pred_keypoints.
            jittering: in SEGMENTATION mode, vary the colours of a class a little.
        """
        fields = {name: predictions.get(name) for name in predictions.get_fields()}
        scores = fields["scores"].tolist() if "scores" in fields else None
        classes = fields["pred_classes"].tolist() if "pred_classes" in fields else None
        masks = fields.get("pred_masks_rle", fields.get("pred_masks"))
        if isinstance(masks, torch.Tensor):
            masks = list(masks.cpu().numpy().astype("uint8"))
        colors, alpha = self._class_colors(classes, jittering), 0.5
        if colors is not None:
            alpha = 0.8
        if self._instance_mode == ColorMode.IMAGE_BW:
            union = (
                None
                if not masks
                else np.any([mask.mask > 0 for mask in self._convert_masks(masks)], axis=0)
            )
            self.output.reset_image(self._create_grayscale_image(union))
            alpha = 0.3
        return self.overlay_instances(
            boxes=fields.get("pred_boxes"),
            labels=_create_text_labels(classes, scores, self.metadata.get("thing_classes")),
            masks=masks,
            keypoints=fields.get("pred_keypoints"),
            assigned_colors=colors,
            alpha=alpha,
        )

    def _class_colors(
        self, classes: Sequence[int] | None, jittering: bool = True
    ) -> list[Color] | None:
        palette = self.metadata.get("thing_colors")
        if self._instance_mode != ColorMode.SEGMENTATION or not palette or classes is None:
            return None
        colors = [tuple(channel / 255 for channel in palette[c]) for c in classes]
        return [self._jitter(color) for color in colors] if jittering else colors

    def draw_sem_seg(
        self,
        sem_seg: torch.Tensor | np.ndarray,
        area_threshold: int | None = None,
        alpha: float = 0.8,
        draw_text: bool = True,
        edge_color: Color = _OFF_WHITE,
    ) -> VisImage:
        """Draw semantic labels.

        Args:
            sem_seg: (H, W) integer labels; those without a name ("stuff_classes") are not drawn.
            area_threshold: labels of fewer pixels are not drawn.
            alpha: opacity in [0, 1].
            draw_text: draw the class names.
            edge_color: colour of the outlines.
        """
        labels = sem_seg.cpu().numpy() if isinstance(sem_seg, torch.Tensor) else sem_seg
        values, areas = np.unique(labels, return_counts=True)
        names = self.metadata.stuff_classes
        for label in values[np.argsort(-areas)]:
            if label < len(names):
                self.draw_binary_mask(
                    (labels == label).astype(np.uint8),
                    color=self._stuff_color(label),
                    edge_color=edge_color,
                    text=names[label] if draw_text else None,
                    alpha=alpha,
                    area_threshold=area_threshold or 0,
                )
        return self.output

    def _stuff_color(self, label: int) -> Color:
        palette = self.metadata.get("stuff_colors")
        return None if palette is None else [channel / 255 for channel in palette[label]]

    def draw_panoptic_seg(
        self,
        panoptic_seg: torch.Tensor,
        segments_info: list[dict] | None,
        area_threshold: int | None = None,
        alpha: float = 0.7,
    ) -> VisImage:
        """Draw panoptic segments.

        Args:
            panoptic_seg: (H, W) integer ids of segments.
            segments_info: "id", "category_id", "isthing" and optionally "score" per segment; None
                if an id is category * metadata.label_divisor + number, and -1 no segment.
            area_threshold: stuff of fewer pixels is not drawn.
            alpha: opacity in [0, 1].
        """
        prediction = _PanopticPrediction(panoptic_seg, segments_info, self.metadata)
        if self._instance_mode == ColorMode.IMAGE_BW:
            self.output.reset_image(self._create_grayscale_image(prediction.non_empty_mask()))
        for mask, info in prediction.semantic_masks():
            label = info["category_id"]
            self.draw_binary_mask(
                mask.astype(np.uint8),
                color=self._stuff_color(label),
                edge_color=_OFF_WHITE,
                text=self.metadata.stuff_classes[label],
                alpha=alpha,
                area_threshold=area_threshold or 0,
            )
        things = list(prediction.instance_masks())
        masks = {info["id"]: mask for mask, info in things}
        infos = [info for _, info in things]
        return self._draw_things(infos, masks, alpha) if things else self.output

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def _draw_things(
        self, things: list[dict], masks: dict[int, np.ndarray], alpha: float
    ) -> VisImage:
        classes = [info["category_id"] for info in things]
        scores = [info["score"] for info in things] if "score" in things[0] else None
        crowds = [bool(info.get("iscrowd", False)) for info in things]
        palette = self.metadata.get("thing_colors")
        colors = None
        if palette:
            colors = [self._jitter([channel / 255 for channel in palette[c]]) for c in classes]
        return self.overlay_instances(
            masks=[masks[info["id"]].astype(np.uint8) for info in things],
            labels=_create_text_labels(classes, scores, self.metadata.thing_classes, crowds),
            assigned_colors=colors,
            alpha=alpha,
        )

    def draw_dataset_dict(self, dic: dict) -> VisImage:
        """Draw the annotations of an image in Detectron2's dataset format."""
        annotations = dic.get("annotations")
        if annotations:
            self._draw_annotations(annotations)
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            with PathManager.open(dic["sem_seg_file_name"], "rb") as file:
                sem_seg = np.asarray(Image.open(file), dtype="uint8")
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        return self.output

    def _draw_annotations(self, annotations: list[dict]) -> None:
        classes = [annotation["category_id"] for annotation in annotations]
        boxes = [
            BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            if len(annotation["bbox"]) == 4
            else annotation["bbox"]
            for annotation in annotations
        ]
        masks = None
        if any(annotation.get("segmentation") for annotation in annotations):
            # An object without a mask is drawn as its box: no polygon.
            masks = [annotation.get("segmentation") or [] for annotation in annotations]
        crowds = [bool(annotation.get("iscrowd", 0)) for annotation in annotations]
        self.overlay_instances(
            boxes=boxes,
            labels=_create_text_labels(classes, None, self.metadata.get("thing_classes"), crowds),
            masks=masks,
            keypoints=_keypoints_of(annotations),
            assigned_colors=self._class_colors(classes),
        )

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Color] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw instances, the largest first.

        Args:
            boxes: `Boxes`, `RotatedBoxes`, (N, 4) XYXY or (N, 5) XYWHA pixels.
            labels: N texts.
            masks: `BitMasks`, `PolygonMasks`, or N of: polygons, RLE, (H, W) array.
            keypoints: `Keypoints` or (N, K, 3) of x, y and visibility or score.
            assigned_colors: N colours; random ones by default.
            alpha: opacity of masks, in [0, 1].
        """
        corners = None if boxes is None else self._convert_boxes(boxes)
        shapes = None if masks is None else self._convert_masks(masks)
        points = None if keypoints is None else self._convert_keypoints(keypoints)
        count = next((len(x) for x in (corners, shapes, points, labels) if x is not None), 0)
        for given in (corners, shapes, points, labels):
            if given is not None and len(given) != count:
                raise AssertionError(f"{count} instances, but {len(given)} in another argument")
        if count == 0:
            return self.output
        colors = assigned_colors
        if colors is None:
            colors = [random_color(rgb=True, maximum=1) for _ in range(count)]
        if corners is not None and corners.shape[1] == 5:
            return self.overlay_rotated_instances(corners, labels, colors)
        for index in _largest_first(corners, shapes, count):
            color = colors[index]
            if corners is not None:
                self.draw_box(corners[index], edge_color=color)
            if shapes is not None:
                self._draw_mask(shapes[index], color, alpha)
            if labels is not None:
                box = corners[index] if corners is not None else None
                shape = shapes[index] if shapes is not None else None
                self._draw_label(labels[index], box, shape, color)
        for skeleton in points if points is not None else ():
            self.draw_and_connect_keypoints(skeleton)
        return self.output

    def _draw_mask(self, mask: GenericMask, color: Color, alpha: float) -> None:
        if mask.has_holes:
            self._overlay(mask.mask * alpha, mplc.to_rgb(color))
            return
        for outline in mask.polygons:
            self.draw_polygon(outline.reshape(-1, 2), color, alpha=alpha)

    def _draw_label(
        self, label: str, box: np.ndarray | None, mask: GenericMask | None, color: Color
    ) -> None:
        """Draw a label at the box's top left corner, or in the middle of the mask.

        For small boxes it is placed outside.
        """
        if box is not None:
            x0, y0, x1, y1 = box
            position, alignment = (x0, y0), "left"
        elif mask is not None and mask.area():
            x0, y0, x1, y1 = mask.bbox()
            position, alignment = tuple(np.median(mask.mask.nonzero(), axis=1)[::-1]), "center"
        else:
            return
        is_small = (x1 - x0) * (y1 - y0) < _SMALL_OBJECT_AREA_THRESH * self.output.scale
        if is_small or y1 - y0 < 40 * self.output.scale:
            position = (x1, y0) if y1 >= self.output.height - 5 else (x0, y1)
        relative = (y1 - y0) / math.sqrt(self.output.height * self.output.width)
        size = float(np.clip((relative - 0.02) / 0.08 + 1, 1.2, 2)) * 0.5 * self._default_font_size
        self.draw_text(
            label,
            position,
            color=self._change_color_brightness(color, brightness_factor=0.7),
            horizontal_alignment=alignment,
            font_size=size,
        )

    def overlay_rotated_instances(
        self,
        boxes: np.ndarray | None = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[Color] | None = None,
    ) -> VisImage:
        """Draw (N, 5) XYWHA boxes with N labels, the largest first."""
        if boxes is None or not len(boxes):
            return self.output
        colors = assigned_colors
        if colors is None:
            colors = [random_color(rgb=True, maximum=1) for _ in boxes]
        for index in np.argsort(-boxes[:, 2] * boxes[:, 3]):
            label = None if labels is None else labels[index]
            self.draw_rotated_box_with_label(boxes[index], edge_color=colors[index], label=label)
        return self.output

    def draw_and_connect_keypoints(self, keypoints: Any) -> VisImage:
        """Draw (K, 3) points of x, y and score above a threshold, and their connections."""
        names = self.metadata.get("keypoint_names")
        visible = {}
        for index, (x, y, score) in enumerate(np.asarray(keypoints)):
            if score > self.keypoint_threshold:
                self.draw_circle((x, y), color=_RED)
                visible[names[index] if names else index] = (x, y)
        for start, end, color in self.metadata.get("keypoint_connection_rules") or ():
            if start in visible and end in visible:
                xs, ys = zip(visible[start], visible[end], strict=True)
                self.draw_line(xs, ys, color=tuple(channel / 255 for channel in color))
        self._draw_trunk(visible)
        return self.output

    def _draw_trunk(self, visible: dict[Any, tuple[float, float]]) -> None:
        """Draw lines from the nose to the mid-shoulder and on to the mid-hip."""

        def middle(part: str) -> tuple[float, float] | None:
            left, right = visible.get(f"left_{part}"), visible.get(f"right_{part}")
            if left is None or right is None:
                return None
            return (left[0] + right[0]) / 2, (left[1] + right[1]) / 2

        shoulders = middle("shoulder")
        for end in (visible.get("nose"), middle("hip")):
            if shoulders is not None and end is not None:
                self.draw_line((shoulders[0], end[0]), (shoulders[1], end[1]), color=_RED)

    def _jitter(self, color: Color) -> tuple[float, ...]:
        """Return a colour near `color`, RGB in [0, 1]."""
        noise = np.random.rand(3)
        noise = noise / np.linalg.norm(noise) * 0.5
        return tuple((noise + mplc.to_rgb(color)).clip(0, 1).tolist())

    def _create_grayscale_image(self, mask: np.ndarray | None = None) -> np.ndarray:
        """Return the image in grey, except inside the mask."""
        grey = np.repeat(self.img.mean(axis=2, keepdims=True).astype("uint8"), 3, axis=2)
        return grey if mask is None else np.where(mask[..., None], self.img, grey)

    def _convert_boxes(self, boxes: Any) -> np.ndarray:
        """Convert to (N, 4) or (N, 5)."""
        if hasattr(boxes, "tensor"):
            return boxes.tensor.detach().cpu().numpy()
        return np.asarray(boxes)

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        masks = masks_or_polygons
        if isinstance(masks, PolygonMasks):
            masks = masks.polygons
        elif isinstance(masks, BitMasks):
            masks = masks.tensor
        if isinstance(masks, torch.Tensor):
            masks = masks.cpu().numpy()
        size = self.output.height, self.output.width
        return [m if isinstance(m, GenericMask) else GenericMask(m, *size) for m in masks]

    def _convert_keypoints(self, keypoints: Any) -> np.ndarray:
        """Convert to (N, K, 3)."""
        points = keypoints.tensor if isinstance(keypoints, Keypoints) else keypoints
        return points.cpu().numpy() if isinstance(points, torch.Tensor) else np.asarray(points)


def _largest_first(
    boxes: np.ndarray | None, masks: list[GenericMask] | None, count: int
) -> Iterable[int]:
    """Order the instances by decreasing area, so that large ones do not hide small ones."""
    if boxes is not None:
        sides = np.asarray(boxes)[:, 2:] - np.asarray(boxes)[:, :2]
        return np.argsort(-sides.prod(axis=1)).tolist()
    if masks is not None:
        return sorted(range(count), key=lambda index: -masks[index].area())
    return range(count)
