"""Test-time augmentation (TTA): sizes, mirror images and slices of an image, merged.

Objects are merged by NMS, scores of semantic masks by their mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2ext.data.augmentation.resize import ResizeShortestEdge, resize_to
from d2ext.data.augmentation.slices import Region, slice_options, slices_of
from d2ext.data.image_reading import read_image
from d2ext.errors import ConfigError
from d2ext.ops import batched_nms_rotated
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances, RotatedBoxes

Item = dict[str, Any]
Flip = str  # letters of the axes that are mirrored: h, v
_TOUCH = 1.0  # pixels; a box that ends closer than this to a cut was cut itself


def with_tta(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap the model in test-time augmentation if `TEST.AUG` or `TEST.SLICE_SIZE` ask for it.

    Raises:
        ConfigError: a value is out of range, or the model's predictions cannot be merged.
    """
    size, overlap = slice_options(cfg.TEST, "TEST")
    if not size and not cfg.TEST.AUG.ENABLED:
        return model
    if cfg.MODEL.KEYPOINT_ON:
        raise ConfigError("TEST.AUG and TEST.SLICE_SIZE merge boxes and masks, not keypoints.")
    return TestTimeAugmentation(
        model,
        resizes=_resizes(cfg),
        flips=_flips(cfg),
        slice_size=size,
        slice_overlap=overlap,
        image_format=cfg.INPUT.FORMAT,
        nms_thresh=cfg.TEST.AUG.NMS_THRESH,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _flips(cfg: CfgNode) -> list[Flip]:
    """Return the mirrorings of each view."""
    many = cfg.TEST.AUG
    if not many.ENABLED or not many.FLIP:
        return [""]
    return ["", "h", "v", "hv"] if many.VERTICAL_FLIP else ["", "h"]


def _resizes(cfg: CfgNode) -> list[T.Augmentation]:
    many, own = cfg.TEST.AUG, resize_to(cfg)
    if many.ENABLED:
        return [ResizeShortestEdge(side, many.MAX_SIZE) for side in many.MIN_SIZES]
    return [own or ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)]


class TestTimeAugmentation(nn.Module):
    """A model wrapped in test-time augmentation: predictions of several views, merged.

    A view is the whole image or a slice, mirrored or not, at one of several sizes. Objects that a
    slice cuts are left to its neighbour or to the whole image. NMS is applied within each class.
    Of semantic masks the class scores of a pixel are averaged over the views that show it.

    Args:
        model: in Detectron2's format: a detector, with `pred_boxes` (axis-aligned or rotated),
            `scores`, `pred_classes` and optionally `pred_masks`, or one of semantic masks.
        resizes: sizes of each view.
        flips: the mirrorings of each view: "" for none, "h" horizontal, "v" vertical, "hv" both;
            views that are mirrored vertically are for semantic masks.
        slice_size: side of a slice in pixels; 0 for no slices.
        slice_overlap: see `slices_of`.
        image_format: "RGB" or "BGR", as the model takes it.
        nms_thresh: IoU above which the lower-scoring of two detections of a class is dropped.
        max_detections: detections per image.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        resizes: list[T.Augmentation],
        flips: Sequence[Flip],
        slice_size: int,
        slice_overlap: float,
        image_format: str,
        nms_thresh: float,
        max_detections: int,
    ) -> None:
        super().__init__()
        self.model, self.resizes = model, resizes
        self.flips = flips
        self.slice_size, self.slice_overlap = slice_size, slice_overlap
        self.image_format = image_format
        self.nms_thresh, self.max_detections = nms_thresh, max_detections

    def forward(self, batch: list[Item]) -> list[Item]:
        """Predict in all views of each image; results are in the image's own pixels."""
        # Read again from "file_name" if the dict has one: "image" may have been shrunk already.
        return [self._predict(_pixels(item, self.image_format)) for item in batch]

    def _predict(self, image: np.ndarray) -> Item:
        """Merge the views by what the first of them gives: objects or semantic masks.

        Raises:
            ConfigError: it gives neither.
        """
        views = list(product(self._regions(image), self.resizes, self.flips))
        outputs = (self._in_view(image, *view) for view in views)
        first = next(outputs)
        size = image.shape[:2]
        places = [(region, flip) for region, _, flip in views]
        seen = zip(places, chain([first], outputs), strict=True)
        if "instances" in first:
            if "v" in self.flips:
                raise ConfigError("TEST.AUG.VERTICAL_FLIP is for models of semantic masks.")
            found = [self._found(output, region, size, flip) for (region, flip), output in seen]
            return {"instances": self._merged(found)}
        if "sem_seg" in first:
            return {"sem_seg": _mean_scores(((*v, o["sem_seg"]) for v, o in seen), size)}
        raise ConfigError(
            "TEST.AUG and TEST.SLICE_SIZE are for models that give objects or semantic masks."
        )

    def _regions(self, image: np.ndarray) -> list[Region]:
        height, width = image.shape[:2]
        whole = (0, 0, width, height)
        if not self.slice_size:
            return [whole]
        return list(
            dict.fromkeys([whole, *slices_of(height, width, self.slice_size, self.slice_overlap)])
        )

    def _in_view(
        self, image: np.ndarray, region: Region, resize: T.Augmentation, flip: Flip
    ) -> Item:
        """Return the model's output for a region, mirrored where the region was."""
        x0, y0, x1, y1 = region
        part = image[y0:y1, x0:x1]
        part = np.ascontiguousarray(np.flip(part, tuple("vh".index(axis) for axis in flip)))
        pixels = resize.get_transform(part).apply_image(part)
        tensor = torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        (output,) = self.model([{"image": tensor, "height": y1 - y0, "width": x1 - x0}])
        return output

    @staticmethod
    def _found(output: Item, region: Region, image_size: tuple[int, int], flip: Flip) -> "_Found":
        found = _Found(output["instances"], region, image_size)
        return (found.mirrored() if flip else found).without_cut()

    def _merged(self, views: list["_Found"]) -> Instances:
        boxes = torch.cat([view.boxes() for view in views])
        scores = torch.cat([view.instances.scores for view in views])
        classes = torch.cat([view.instances.pred_classes for view in views])
        nms = batched_nms_rotated if boxes.shape[1] == 5 else batched_nms
        keep = nms(boxes.float(), scores, classes, self.nms_thresh)[: self.max_detections]
        merged = Instances(views[0].image_size)
        merged.pred_boxes = type(views[0].instances.pred_boxes)(boxes[keep])
        merged.scores, merged.pred_classes = scores[keep], classes[keep]
        if all(view.instances.has("pred_masks") for view in views):
            merged.pred_masks = _masks(views, keep)
        return merged


@dataclass(frozen=True)
class _Found:
    """Detections in a region of an image.

    Args:
        instances: detections in pixels of the region.
        region: the region in pixels of the image.
        image_size: (height, width) in pixels.
    """

    instances: Instances
    region: Region
    image_size: tuple[int, int]

    def boxes(self) -> Tensor:
        """Return the boxes in pixels of the image: (N, 4) XYXY or (N, 5) XYWHA."""
        boxes = self.instances.pred_boxes.tensor.clone()
        shift = boxes.new_tensor(self.region[:2])
        boxes[:, :2] += shift
        if boxes.shape[1] == 4:
            boxes[:, 2:] += shift
        return boxes

    def mirrored(self) -> "_Found":
        """Map detections in the mirrored region back to the region."""
        width = self.region[2] - self.region[0]
        flipped = Instances(self.instances.image_size, **self.instances.get_fields())
        boxes = self.instances.pred_boxes.tensor.clone()
        if boxes.shape[1] == 5:
            boxes[:, 0], boxes[:, 4] = width - boxes[:, 0], -boxes[:, 4]
            flipped.pred_boxes = RotatedBoxes(boxes)
        else:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            flipped.pred_boxes = Boxes(boxes)
        if flipped.has("pred_masks"):
            flipped.pred_masks = flipped.pred_masks.flip(-1)
        return _Found(flipped, self.region, self.image_size)

    def without_cut(self) -> "_Found":
        """Drop the detections that end at a border of the region inside the image."""
        boxes = self.instances.pred_boxes.tensor
        if boxes.shape[1] == 5:
            return self  # a rotated box reaches beyond a cut instead of ending there
        x0, y0, x1, y1 = self.region
        height, width = self.image_size
        cut = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        cut |= (boxes[:, 0] < _TOUCH) if x0 > 0 else False
        cut |= (boxes[:, 1] < _TOUCH) if y0 > 0 else False
        cut |= (boxes[:, 2] > x1 - x0 - _TOUCH) if x1 < width else False
        cut |= (boxes[:, 3] > y1 - y0 - _TOUCH) if y1 < height else False
        return _Found(self.instances[~cut], self.region, self.image_size)


def _pixels(item: Item, image_format: str) -> np.ndarray:
    """Return the image (H, W, 3) uint8, at full size if its file is known."""
    if "file_name" in item:
        return read_image(item["file_name"], format=image_format)
    return item["image"].permute(1, 2, 0).cpu().numpy()


def _masks(views: list[_Found], keep: Tensor) -> Tensor:
    """Return (N, H, W) bool masks of the kept detections, in pixels of the image."""
    height, width = views[0].image_size
    owners = [(view, i) for view in views for i in range(len(view.instances))]
    masks = torch.zeros((len(keep), height, width), dtype=torch.bool)
    for mask, position in zip(masks, keep.tolist(), strict=True):
        view, index = owners[position]
        x0, y0, x1, y1 = view.region
        mask[y0:y1, x0:x1] = view.instances.pred_masks[index].cpu()
    return masks.to(keep.device)


def _mean_scores(
    views: Iterable[tuple[Region, Flip, Tensor]], image_size: tuple[int, int]
) -> Tensor:
    """Return the mean of class scores, (C, H, W), over the views of each pixel.

    Args:
        views: region, mirroring, and the (C, h, w) scores of the region's pixels.
    """
    total, count = torch.zeros(()), torch.zeros(image_size)
    for (x0, y0, x1, y1), flip, scores in views:
        if total.dim() == 0:
            total = scores.new_zeros((len(scores), *image_size), dtype=torch.float32)
            count = count.to(scores.device)
        total[:, y0:y1, x0:x1] += scores.flip([" vh".index(axis) for axis in flip])
        count[y0:y1, x0:x1] += 1
    return total / count
