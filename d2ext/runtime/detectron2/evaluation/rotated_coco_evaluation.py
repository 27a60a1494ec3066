"""COCO's metrics for rotated boxes: only the IoU counts, not the angle itself."""

from typing import Any

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval

from detectron2.structures import BoxMode, Instances, RotatedBoxes, pairwise_iou_rotated

from .coco_evaluation import COCOEvaluator

__all__ = ["RotatedCOCOEvaluator", "RotatedCOCOeval"]


class RotatedCOCOeval(COCOeval):
    """pycocotools' evaluation of XYWHA boxes; boxes of four numbers are XYWH."""

    @staticmethod
    def is_rotated(box_list: Any) -> bool:
        """Return whether the list is not empty and all boxes have five numbers."""
        if isinstance(box_list, np.ndarray):
            return box_list.shape[1] == 5
        return len(box_list) > 0 and all(len(box) == 5 for box in box_list)

    @staticmethod
    def boxlist_to_tensor(boxlist: Any, output_box_dim: int) -> torch.Tensor:
        """Convert XYWH or XYWHA boxes to (N, 4 or 5) floats; XYWH may become XYWHA."""
        if output_box_dim not in (4, 5):
            raise AssertionError(f"a box has 4 or 5 numbers, not {output_box_dim}")
        if len(boxlist) == 0:
            return torch.zeros(0, output_box_dim)
        boxes = torch.as_tensor(np.asarray(boxlist), dtype=torch.float32)
        if boxes.shape[1] == 4 and output_box_dim == 5:
            return torch.as_tensor(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS))
        if boxes.shape[1] != output_box_dim:
            raise ValueError(f"Cannot make boxes of {output_box_dim} numbers of {boxes.shape[1]}.")
        return boxes

    def compute_iou_dt_gt(self, dt: Any, gt: Any, is_crowd: Any) -> Any:
        """Compute (detections, annotations) IoU."""
        if not (self.is_rotated(dt) or self.is_rotated(gt)):
            raise ValueError("RotatedCOCOeval needs rotated boxes; COCOEvaluator is for others.")
        if any(is_crowd):
            raise AssertionError("Crowds of rotated boxes are not supported.")
        boxes = [
            RotatedBoxes(self.boxlist_to_tensor(found, output_box_dim=5)) for found in (dt, gt)
        ]
        return pairwise_iou_rotated(*boxes)

    def computeIoU(self, imgId: int, catId: int) -> Any:
        p = self.params
        categories = [catId] if p.useCats else p.catIds
        gt = [found for c in categories for found in self._gts[imgId, c]]
        dt = [found for c in categories for found in self._dts[imgId, c]]
        if not gt and not dt:
            return []
        order = np.argsort([-found["score"] for found in dt], kind="mergesort")
        dt = [dt[index] for index in order][: p.maxDets[-1]]
        if p.iouType != "bbox":
            raise AssertionError(f"only boxes can be rotated, got {p.iouType}")
        found, annotated = ([_as_rotated(item["bbox"]) for item in items] for items in (dt, gt))
        return self.compute_iou_dt_gt(found, annotated, [int(item["iscrowd"]) for item in gt])


def _as_rotated(box: list[float]) -> list[float]:
    """Convert an XYWH box to XYWHA; keep an XYWHA box."""
    if len(box) == 5:
        return box
    return list(BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS))


class RotatedCOCOEvaluator(COCOEvaluator):
    """`COCOEvaluator` for predictions with `RotatedBoxes` or `Boxes`, and rotated annotations.

    Annotations are XYWHA, or XYWH where they have four numbers. Only boxes are evaluated.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cocoeval_fn = RotatedCOCOeval

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add the predictions of a batch; see `COCOEvaluator.process`."""
        for image, found in zip(inputs, outputs, strict=True):
            prediction: dict[str, Any] = {"image_id": image["image_id"]}
            if "instances" in found:
                instances = found["instances"].to(self._cpu_device)
                prediction["instances"] = self.instances_to_json(instances, image["image_id"])
            if "proposals" in found:
                prediction["proposals"] = found["proposals"].to(self._cpu_device)
            self._predictions.append(prediction)

    def instances_to_json(self, instances: Instances, img_id: Any) -> list[dict[str, Any]]:
        """Convert the detections of an image to COCO's results format; boxes are XYWHA or XYWH."""
        boxes = instances.pred_boxes.tensor.numpy()
        if boxes.shape[1] == 4:
            boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns = boxes.tolist(), instances.scores.tolist(), instances.pred_classes.tolist()
        return [
            {"image_id": img_id, "category_id": label, "bbox": box, "score": score}
            for box, score, label in zip(*columns, strict=True)
        ]

    def _tasks_from_predictions(self, predictions: Any) -> list[str]:
        return ["bbox"]
