"""Reading of images, and conversion of annotations from dataset dicts to `Instances`."""

import io
import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from detectron2.config import CfgNode
from detectron2.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
    polygons_to_bitmask,
)
from detectron2.utils.file_io import PathManager
from detectron2.utils.run_lengths import decode_run_lengths

from . import transforms as T
from .catalog import MetadataCatalog

__all__ = [
    "SizeMismatchError",
    "annotations_to_instances",
    "annotations_to_instances_rotated",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "read_image",
    "transform_instance_annotations",
    "transform_proposals",
]

# https://en.wikipedia.org/wiki/YUV#SDTV_with_BT.601
_RGB_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_YUV_TO_RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])

_EXIF_ORIENTATION = 0x0112
# EXIF's values and the transposition that undoes each; 1 is upright.
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_JPEG_END = b"\xff\xd9"


class SizeMismatchError(ValueError):
    """An image whose width or height differs from its annotation."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Convert a Pillow image to an (H, W, C) array in `format`; see `read_image`."""
    if format is not None:
        image = image.convert("RGB" if format in ("BGR", "YUV-BT.601") else format)
    pixels = np.array(image)  # writable, unlike the result of asarray
    if format == "L":
        return pixels[:, :, None]
    if format == "BGR":
        return pixels[:, :, ::-1]
    if format == "YUV-BT.601":
        return np.dot(pixels / 255.0, _RGB_TO_YUV.T)
    return pixels


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str) -> np.ndarray:
    """Convert (H, W, C) in `format` to (H, W, 3) RGB in [0, 255], uint8 or floats."""
    pixels = image.cpu().numpy() if isinstance(image, torch.Tensor) else image
    if format == "BGR":
        # An index instead of `::-1`: negative strides cannot become tensors.
        return pixels[:, :, [2, 1, 0]]
    if format == "YUV-BT.601":
        return np.dot(pixels, _YUV_TO_RGB.T) * 255.0
    pixels = (pixels[:, :, 0] if format == "L" else pixels).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).convert("RGB"))


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate the image by its EXIF orientation, since cameras store pixels as the sensor lies."""
    orientation = _orientation(image)
    return image.transpose(_TO_UPRIGHT[orientation]) if orientation in _TO_UPRIGHT else image


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # malformed EXIF must not make the image unreadable
        return None


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file and apply its EXIF orientation.

    Args:
        file_name: a path that `PathManager` opens.
        format: a mode of Pillow, "BGR" or "YUV-BT.601"; None keeps the file's mode.

    Returns:
        (H, W, C) uint8, or floats with Y in [0, 1] for "YUV-BT.601"; (H, W) for a file's own
        single channel.
    """
    with PathManager.open(file_name, "rb") as file:
        content = file.read()
    image = Image.open(io.BytesIO(content))  # reads the header only
    if format in ("BGR", "RGB") and _is_plain_jpeg(image, content):
        pixels = _decode_jpeg(content)
        if pixels is not None:
            return pixels if format == "BGR" else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return convert_PIL_to_numpy(_apply_exif_orientation(image), format)


def _is_plain_jpeg(image: Image.Image, content: bytes) -> bool:
    """Return whether OpenCV decodes the file to Pillow's pixels: both use libjpeg-turbo.

    Files that are truncated, rotated or in CMYK are left to Pillow.
    """
    return (
        image.format == "JPEG"
        and image.mode in ("RGB", "L")
        and content.endswith(_JPEG_END)
        and _orientation(image) not in _TO_UPRIGHT
    )


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    """Decode to (H, W, 3) uint8 BGR, or None if OpenCV refuses."""
    how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), how)
    except cv2.error:
        return None


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Check "width" and "height" of the dict against the image; add them if absent.

    Raises:
        SizeMismatchError: they differ.
    """
    height, width = image.shape[:2]
    if "width" in dataset_dict or "height" in dataset_dict:
        expected = dataset_dict["width"], dataset_dict["height"]
        if expected != (width, height):
            name = dataset_dict.get("file_name", "The image")
            raise SizeMismatchError(
                f"{name} is {width} x {height} pixels, but its annotation says "
                f"{expected[0]} x {expected[1]}. Please check the width/height in your annotation."
            )
    dataset_dict.setdefault("width", width)
    dataset_dict.setdefault("height", height)


def transform_proposals(
    dataset_dict: dict,
    image_shape: tuple[int, int],
    transforms: T.Transform,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Replace "proposal_boxes" etc. of the dict by "proposals", `Instances` of the new image.

    Args:
        dataset_dict: one image; changed in place.
        image_shape: (height, width) of the transformed image in pixels.
        transforms: applied to the boxes.
        proposal_topk: number of proposals to keep, the first ones.
        min_box_size: minimum side in pixels; smaller boxes are dropped.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    mode = dataset_dict.pop("proposal_bbox_mode")
    corners = BoxMode.convert(dataset_dict.pop("proposal_boxes"), mode, BoxMode.XYXY_ABS)
    boxes = Boxes(transforms.apply_box(corners))
    logits = torch.as_tensor(dataset_dict.pop("proposal_objectness_logits").astype("float32"))
    boxes.clip(image_shape)
    keep = boxes.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = boxes[keep][:proposal_topk]
    proposals.objectness_logits = logits[keep][:proposal_topk]
    dataset_dict["proposals"] = proposals


def get_bbox(annotation: dict) -> np.ndarray:
    """Convert the box of an annotation in any mode to (4,) XYXY pixels."""
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return np.asarray(box)


def transform_instance_annotations(
    annotation: dict,
    transforms: T.TransformList | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: np.ndarray | Sequence[int] | None = None,
) -> dict:
    """Transform box, segmentation and keypoints of one object, in place.

    Args:
        annotation: one object in Detectron2's dataset format.
        transforms: one or several.
        image_size: (height, width) of the transformed image; boxes are clipped to it.
        keypoint_hflip_indices: see `create_keypoint_hflip_indices`.

    Returns:
        The same dict; its box is XYXY in pixels, an RLE is decoded to an (H, W) mask.
    """
    if not isinstance(transforms, T.Transform):
        transforms = T.TransformList(transforms)
    height, width = image_size
    # Clipped, because augmentations move boxes beyond the border and heads regress visible parts.
    box = transforms.apply_box(np.array([get_bbox(annotation)]))[0].clip(min=0)
    annotation["bbox"] = np.minimum(box, [width, height, width, height])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _transform_segmentation(
            annotation["segmentation"], transforms, image_size
        )
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _transform_segmentation(
    segmentation: Any, transforms: T.TransformList, image_size: tuple[int, int]
) -> np.ndarray | list[np.ndarray]:
    if isinstance(segmentation, list):
        corners = [np.asarray(polygon).reshape(-1, 2) for polygon in segmentation]
        return [polygon.reshape(-1) for polygon in transforms.apply_polygons(corners)]
    if not isinstance(segmentation, dict):
        raise ValueError(
            f"Cannot transform a segmentation of type {type(segmentation).__name__}: expected "
            "polygons as list[list[float]] or ndarrays, or a COCO-style RLE as a dict."
        )
    mask = transforms.apply_segmentation(decode_run_lengths(segmentation))
    if tuple(mask.shape[:2]) != tuple(image_size):
        raise AssertionError(f"The mask is {mask.shape[:2]} pixels, its image {image_size}.")
    return mask


def transform_keypoint_annotations(
    keypoints: Sequence[float] | np.ndarray,
    transforms: T.TransformList,
    image_size: tuple[int, int],
    keypoint_hflip_indices: np.ndarray | Sequence[int] | None = None,
) -> np.ndarray:
    """Transform keypoints to (K, 3) x, y, visibility; those outside the image become unlabelled.

    Args:
        keypoints: 3K or (K, 3) numbers.
        transforms: applied to the points.
        image_size: (height, width) of the transformed image in pixels.
        keypoint_hflip_indices: order of the keypoints in a flipped image.

    Raises:
        ValueError: the image is flipped, and the order is missing or of another length.
    """
    points = np.asarray(keypoints, dtype="float64").reshape(-1, 3)
    moved = transforms.apply_coords(points[:, :2])
    inside = ((moved >= 0) & (moved <= np.array(image_size[::-1]))).all(axis=1)
    points[:, :2] = moved
    points[~inside, 2] = 0
    if _is_mirrored(transforms):
        points = points[_checked_flip_indices(keypoint_hflip_indices, len(points))]
    # COCO's convention: unlabelled keypoints are at the origin.
    points[points[:, 2] == 0] = 0
    return points


def _is_mirrored(transforms: T.TransformList) -> bool:
    # Two flips cancel each other.
    return sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms) % 2 == 1


def _checked_flip_indices(indices: Any, count: int) -> np.ndarray:
    if indices is None:
        raise ValueError("Cannot flip keypoints without providing flip indices!")
    if len(indices) != count:
        raise ValueError(f"The data has {count} points, the metadata says {len(indices)}.")
    return np.asarray(indices, dtype=np.int32)


def annotations_to_instances(
    annos: list[dict], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Convert the annotations of an image to the `Instances` that models train on.

    Args:
        annos: objects in Detectron2's dataset format.
        image_size: (height, width) in pixels.
        mask_format: "polygon" or "bitmask".

    Returns:
        `Instances` with gt_boxes, gt_classes and, where annotated, gt_masks and gt_keypoints.
    """
    target = Instances(image_size)
    boxes = [get_bbox(anno) for anno in annos]
    target.gt_boxes = Boxes(np.stack(boxes) if boxes else np.zeros((0, 4)))
    target.gt_classes = torch.tensor([int(a["category_id"]) for a in annos], dtype=torch.int64)
    # Detectron2 decides by the first object: all or none of an image's objects have masks.
    if annos and "segmentation" in annos[0]:
        segmentations = [anno["segmentation"] for anno in annos]
        target.gt_masks = _masks(segmentations, image_size, mask_format)
    if annos and "keypoints" in annos[0]:
        target.gt_keypoints = Keypoints([anno.get("keypoints", []) for anno in annos])
    return target


def _masks(
    segmentations: list, image_size: tuple[int, int], mask_format: str
) -> PolygonMasks | BitMasks:
    if mask_format != "polygon":
        if mask_format != "bitmask":
            raise AssertionError(f"mask_format is 'polygon' or 'bitmask', got {mask_format!r}")
        masks = [_as_bitmask(segmentation, image_size) for segmentation in segmentations]
        return BitMasks(torch.stack([torch.from_numpy(np.ascontiguousarray(m)) for m in masks]))
    try:
        return PolygonMasks(segmentations)
    except ValueError as error:
        raise ValueError(
            "Failed to use mask_format=='polygon' from the given annotations: they hold masks. "
            "Set INPUT.MASK_FORMAT to 'bitmask'."
        ) from error


def _as_bitmask(segmentation: Any, image_size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return decode_run_lengths(segmentation)
    if not isinstance(segmentation, np.ndarray):
        raise ValueError(
            f"Cannot convert a segmentation of type {type(segmentation).__name__} to a mask: "
            "expected polygons as list[list[float]] or ndarrays, a COCO-style RLE as a dict, or a "
            "binary mask of shape (H, W)."
        )
    if segmentation.ndim != 2:
        raise AssertionError(f"Expected a mask of 2 dimensions, got {segmentation.ndim}.")
    return segmentation


def annotations_to_instances_rotated(annos: list[dict], image_size: tuple[int, int]) -> Instances:
    """Convert to `Instances` with gt_boxes (`RotatedBoxes`, clipped) and gt_classes."""
    target = Instances(image_size)
    target.gt_boxes = RotatedBoxes([anno["bbox"] for anno in annos])
    target.gt_boxes.clip(image_size)
    target.gt_classes = torch.tensor([a["category_id"] for a in annos], dtype=torch.int64)
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Instances | tuple[Instances, torch.Tensor]:
    """Filter out instances with an empty box or mask.

    Args:
        instances: with gt_boxes and maybe gt_masks.
        by_box: drop by boxes with a side of at most `box_threshold` pixels.
        by_mask: drop by masks without a pixel.
        box_threshold: in pixels.
        return_mask: also return the (N,) bool mask of the instances kept.
    """
    if not by_box and not by_mask:
        raise AssertionError("filter by boxes, by masks or by both")
    keep = torch.ones(len(instances), dtype=torch.bool)
    if by_box:
        keep = instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        keep = keep & instances.gt_masks.nonempty()
    return (instances[keep], keep) if return_mask else instances[keep]


def create_keypoint_hflip_indices(dataset_names: str | list[str]) -> list[int]:
    """Return the index of each keypoint's counterpart in a horizontally flipped image."""
    names = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    check_metadata_consistency("keypoint_names", names)
    check_metadata_consistency("keypoint_flip_map", names)
    meta = MetadataCatalog.get(names[0])
    partner = dict(meta.keypoint_flip_map)
    partner.update({right: left for left, right in meta.keypoint_flip_map})
    return [meta.keypoint_names.index(partner.get(n, n)) for n in meta.keypoint_names]


def get_fed_loss_cls_weights(
    dataset_names: str | list[str], freq_weight_power: float = 1.0
) -> torch.Tensor:
    """Return (classes,) training images per class, raised to a power, for the federated loss.

    Source: Zhou et al. 2021, arXiv:2103.07461.
    """
    names = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    check_metadata_consistency("class_image_count", names)
    counts = sorted(MetadataCatalog.get(names[0]).class_image_count, key=lambda c: c["id"])
    return torch.tensor([c["image_count"] for c in counts]).float() ** freq_weight_power


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict
) -> T.CropTransform:
    """Return a random crop that contains the centre of an object.

    Args:
        crop_size: (height, width) in pixels, within the image.
        image_size: (height, width) in pixels.
        instance: an annotation with a box.
    """
    crop, image = np.asarray(crop_size, dtype=np.int32), np.asarray(image_size, dtype=np.int32)
    x0, y0, x1, y1 = get_bbox(instance)
    center = np.array([(y0 + y1) * 0.5, (x0 + x1) * 0.5])
    if (image < center).any():
        raise AssertionError("The annotation's box is outside of the image!")
    if (image < crop).any():
        raise AssertionError("The crop is larger than the image!")
    lowest = np.maximum(np.floor(center).astype(np.int32) - crop, 0)
    highest = np.minimum(np.maximum(image - crop, 0), np.ceil(center).astype(np.int32))
    top = np.random.randint(lowest[0], highest[0] + 1)
    left = np.random.randint(lowest[1], highest[1] + 1)
    return T.CropTransform(left, top, int(crop[1]), int(crop[0]))


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Check that a metadata key has the same value in all datasets.

    Raises:
        AttributeError: a dataset does not have the key.
        ValueError: the values differ.
    """
    if not dataset_names:
        return
    first, *others = [(name, getattr(MetadataCatalog.get(name), key)) for name in dataset_names]
    for name, value in others:
        if value != first[1]:
            logging.getLogger(__name__).error("%s: %s is %s", first[0], key, first[1])
            logging.getLogger(__name__).error("%s: %s is %s", name, key, value)
            raise ValueError(f"Datasets {first[0]} and {name} have different metadata '{key}'!")


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Build the resizing and, for training, the flips that INPUT configures."""
    if not is_train:
        sizes = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        return [T.ResizeShortestEdge(*sizes, "choice")]
    sizes = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN
    steps: list[T.Augmentation] = [T.ResizeShortestEdge(*sizes, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)]
    flip = cfg.INPUT.RANDOM_FLIP
    if flip != "none":
        steps.append(T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical"))
    return steps


build_transform_gen = build_augmentation
