"""COCO's metrics of boxes, masks, keypoints and proposals.

The definitions: https://cocodataset.org/#detection-eval and #keypoints-eval.
"""

import contextlib
import copy
import gc
import io
import itertools
import json
import logging
import os
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from detectron2.utils.run_lengths import check_polygons, check_run_lengths

from .evaluator import DatasetEvaluator
from .fast_eval_api import COCOeval_opt

__all__ = ["COCOEvaluator", "instances_to_coco_json"]

logger = logging.getLogger(__name__)

_BOX_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Metrics per task, in the order of COCO's summary.
_METRICS = {
    "bbox": _BOX_METRICS,
    "segm": _BOX_METRICS,
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
}


class COCOEvaluator(DatasetEvaluator):
    """COCO's AP in percent for boxes, masks and keypoints, and the recall of proposals.

    `evaluate` returns {"bbox": {"AP": ..., "AP50": ..., "AP-<class>": ...}, "segm": ..., ...}; a
    value is nan where nothing can be measured, e.g. without objects of that size.

    Args:
        dataset_name: its metadata names a "json_file" in COCO's format; any other dataset in
            Detectron2's format is converted to one in `output_dir`.
        tasks: any of "bbox", "segm" and "keypoints"; by default those that the predictions allow.
        distributed: collect the predictions of all processes and evaluate in the first one.
        output_dir: folder for "instances_predictions.pth" (predictions as they came) and
            "coco_instances_results.json" (COCO's format); None writes neither.
        max_dets_per_image: maximum number of detections per image, 100 by default.
        use_fast_impl: evaluate by faster-coco-eval, which is faster with the same numbers.
        kpt_oks_sigmas: OKS sigma of each keypoint, COCO's by default.
        allow_cached_coco: reuse a converted file in `output_dir`.
    """

    _format = "COCO"

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | Sequence[int] | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ) -> None:
        if isinstance(tasks, CfgNode):
            logger.warning("COCOEvaluator takes tasks, not a config: they follow the predictions.")
            tasks, kpt_oks_sigmas = None, tasks.TEST.KEYPOINT_OKS_SIGMAS or kpt_oks_sigmas
        self._logger = logger
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = output_dir
        self._use_fast_impl = use_fast_impl
        self._cocoeval_fn: Any = COCOeval_opt if use_fast_impl else COCOeval
        self._max_dets_per_image = _detection_limits(max_dets_per_image)
        self._kpt_oks_sigmas = kpt_oks_sigmas
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        if not hasattr(self._metadata, "json_file"):
            self._metadata.json_file = _convert(dataset_name, output_dir, allow_cached_coco)
        self._coco_api = _load_coco(PathManager.get_local_path(str(self._metadata.json_file)))
        # Test sets are published without annotations: predictions are written, not scored.
        self._do_evaluation = "annotations" in self._coco_api.dataset
        self._predictions: list[dict] = []

    def reset(self) -> None:
        self._predictions = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add the predictions of a batch.

        Args:
            inputs: dicts with "image_id".
            outputs: dicts with "instances", `Instances` in the size of the original image, or with
                "proposals", or both.
        """
        for image, found in zip(inputs, outputs, strict=True):
            prediction: dict[str, Any] = {"image_id": image["image_id"]}
            if "instances" in found:
                instances = found["instances"].to(self._cpu_device)
                prediction["instances"] = instances_to_coco_json(instances, image["image_id"])
            if "proposals" in found:
                prediction["proposals"] = found["proposals"].to(self._cpu_device)
            if len(prediction) > 1:
                self._predictions.append(prediction)

    def evaluate(self, img_ids: Sequence[Any] | None = None) -> dict[str, Any]:
        """Evaluate the predictions processed so far.

        Args:
            img_ids: evaluate on these images only; by default on all of the dataset.
        """
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(predictions, dst=0)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            self._logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, "instances_predictions.pth")
            torch.save(predictions, path + ".tmp")
            os.replace(path + ".tmp", path)
        self._results: OrderedDict = OrderedDict()
        if "proposals" in predictions[0]:
            self._eval_box_proposals(predictions)
        if "instances" in predictions[0]:
            self._eval_predictions(predictions, img_ids=img_ids)
        return copy.deepcopy(self._results)

    def _tasks_from_predictions(self, predictions: Iterable[dict]) -> list[str]:
        tasks = {"bbox"}
        for prediction in predictions:
            tasks.update({"segm"} if "segmentation" in prediction else ())
            tasks.update({"keypoints"} if "keypoints" in prediction else ())
        return sorted(tasks)

    def _eval_predictions(
        self, predictions: list[dict], img_ids: Sequence[Any] | None = None
    ) -> None:
        self._logger.info(f"Preparing results for {self._format} format ...")
        detections = list(itertools.chain(*[p["instances"] for p in predictions]))
        tasks = self._tasks or self._tasks_from_predictions(detections)
        detections = self._with_original_categories(detections)
        if self._output_dir:
            path = os.path.join(self._output_dir, f"{self._format.lower()}_instances_results.json")
            self._logger.info(f"Saving results to {path}")
            with PathManager.open(path + ".tmp", "w", encoding="utf-8") as file:
                json.dump(detections, file)
            os.replace(path + ".tmp", path)
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        for task in sorted(tasks):
            self._results[task] = self._eval_task(detections, task, img_ids)

    def _eval_task(
        self, detections: list[dict], task: str, img_ids: Sequence[Any] | None
    ) -> dict[str, float]:
        implementation = "fast" if self._use_fast_impl else "official"
        self._logger.info(f"Evaluating {task} with {implementation} COCO API...")
        coco_eval = None
        if detections:
            coco_eval = _evaluate_predictions_on_coco(
                self._coco_api,
                detections,
                task,
                kpt_oks_sigmas=self._kpt_oks_sigmas,
                cocoeval_fn=self._cocoeval_fn,
                img_ids=img_ids,
                max_dets_per_image=self._max_dets_per_image,
            )
        classes = self._metadata.get("thing_classes")
        return self._derive_coco_results(coco_eval, task, class_names=classes)

    def _with_original_categories(self, detections: list[dict]) -> list[dict]:
        """Return copies with the dataset's category ids in place of contiguous indices."""
        to_contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_contiguous is None:
            return detections
        original = {contiguous: category for category, contiguous in to_contiguous.items()}
        unknown = {detection["category_id"] for detection in detections} - original.keys()
        if unknown:
            raise AssertionError(
                f"A prediction has class={min(unknown)}, but the dataset only has "
                f"{len(original)} classes and predicted class id should be in "
                f"[0, {len(original) - 1}]."
            )
        return [{**found, "category_id": original[found["category_id"]]} for found in detections]

    def _eval_box_proposals(self, predictions: list[dict]) -> None:
        """Compute the average recall of 100 and 1000 proposals per image, by object size."""
        if self._output_dir:
            self._write_proposals(predictions)
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        self._logger.info("Evaluating bbox proposals ...")
        areas = {"all": "", "small": "s", "medium": "m", "large": "l"}
        recalls = {}
        for limit in (100, 1000):
            for area, suffix in areas.items():
                stats = _evaluate_box_proposals(predictions, self._coco_api, area=area, limit=limit)
                recalls[f"AR{suffix}@{limit:d}"] = float(stats["ar"].item() * 100)
        self._logger.info("Proposal metrics: \n" + create_small_table(recalls))
        self._results["box_proposals"] = recalls

    def _write_proposals(self, predictions: list[dict]) -> None:
        proposals = [prediction["proposals"] for prediction in predictions]
        content = {
            "boxes": [p.proposal_boxes.tensor.numpy() for p in proposals],
            "objectness_logits": [p.objectness_logits.numpy() for p in proposals],
            "ids": [prediction["image_id"] for prediction in predictions],
            "bbox_mode": BoxMode.XYXY_ABS.value,
        }
        path = os.path.join(str(self._output_dir), "box_proposals.pkl")
        with PathManager.open(path + ".tmp", "wb") as file:
            pickle.dump(content, file)
        os.replace(path + ".tmp", path)

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Collect COCO's summary by name, in percent, and the AP of each class."""
        metrics = _METRICS[iou_type]
        if coco_eval is None:
            self._logger.warning("No predictions from the model!")
            return {metric: float("nan") for metric in metrics}
        # COCO reports -1 for what cannot be measured.
        numbers = [value * 100 if value >= 0 else float("nan") for value in coco_eval.stats]
        results = {metric: float(v) for metric, v in zip(metrics, numbers, strict=False)}
        self._logger.info(f"Evaluation results for {iou_type}: \n" + create_small_table(results))
        if not all(np.isfinite(value) for value in results.values()):
            self._logger.info("Some metrics cannot be computed and is shown as NaN.")
        if class_names is None or len(class_names) <= 1:
            return results
        per_class = _class_precision(coco_eval, class_names)
        self._logger.info(f"Per-category {iou_type} AP: \n" + _class_table(per_class))
        results.update({f"AP-{name}": ap for name, ap in per_class})
        return results


def _detection_limits(max_dets_per_image: int | Sequence[int] | None) -> list[int]:
    """Return COCO's three limits of detections per image."""
    if max_dets_per_image is None:
        # COCO's own limits.
        return [1, 10, 100]
    if isinstance(max_dets_per_image, int):
        return [1, 10, max_dets_per_image]
    return list(max_dets_per_image)


def _convert(dataset_name: str, output_dir: str | None, allow_cached: bool) -> str:
    if output_dir is None:
        raise ValueError(
            f"output_dir must be provided to COCOEvaluator for '{dataset_name}': it has no "
            "json_file in its metadata and has to be converted to one."
        )
    logger.info(f"Trying to convert '{dataset_name}' to COCO format ...")
    path = os.path.join(output_dir, f"{dataset_name}_coco_format.json")
    convert_to_coco_json(dataset_name, path, allow_cached=allow_cached)
    return path


def _load_coco(json_file: str) -> COCO:
    api = COCO()
    with open(json_file, encoding="utf-8") as file:
        api.dataset = json.load(file)
    for annotation in api.dataset.get("annotations", []):
        _check_mask(annotation, json_file)
        annotation.setdefault("iscrowd", 0)
        if "area" not in annotation and "bbox" in annotation:
            # Custom files often lack areas; the box's area selects the size range.
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api


def _check_mask(annotation: dict[str, Any], json_file: str) -> None:
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, dict):
            check_run_lengths(segmentation)
        elif segmentation:
            check_polygons(segmentation, least=0)
    except ValueError as error:
        raise ValueError(f"{json_file}: annotation {annotation.get('id')}: {error}.") from error


def _class_precision(coco_eval: Any, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """List (name, AP in percent) of each class, over all sizes, at the highest detection limit."""
    # (IoU thresholds, recall thresholds, classes, sizes, detection limits)
    precisions = coco_eval.eval["precision"]
    if len(class_names) != precisions.shape[2]:
        raise AssertionError(
            f"The metadata has {len(class_names)} classes, the annotations {precisions.shape[2]}."
        )
    per_class = []
    for index, name in enumerate(class_names):
        # Size 0 is "all", limit -1 the highest.
        precision = precisions[:, :, index, 0, -1]
        precision = precision[precision > -1]
        ap = np.mean(precision) if precision.size else float("nan")
        per_class.append((name, float(ap * 100)))
    return per_class


def _class_table(per_class: list[tuple[str, float]]) -> str:
    columns = min(6, len(per_class) * 2)
    cells = list(itertools.chain(*per_class))
    rows = itertools.zip_longest(*[cells[i::columns] for i in range(columns)])
    return tabulate(
        rows,
        tablefmt="pipe",
        floatfmt=".3f",
        headers=["category", "AP"] * (columns // 2),
        numalign="left",
    )


def instances_to_coco_json(instances: Instances, img_id: Any) -> list[dict[str, Any]]:
    """Convert the detections of an image to COCO's results format.

    Args:
        instances: on the CPU, with pred_boxes, scores, pred_classes and maybe pred_masks
            ((N, H, W) bool) or pred_masks_rle, and pred_keypoints ((N, K, 3)).
        img_id: the image's id in the dataset.

    Returns:
        One dict per instance: image_id, category_id (contiguous), bbox (XYWH pixels), score and
        optionally segmentation (RLE) and keypoints (3K numbers).
    """
    if len(instances) == 0:
        return []
    boxes = np.asarray(
        BoxMode.convert(instances.pred_boxes.tensor.numpy(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    )
    columns: dict[str, list] = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes.tolist(),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks_rle"):
        columns["segmentation"] = [check_run_lengths(rle) for rle in instances.pred_masks_rle]
    elif instances.has("pred_masks"):
        columns["segmentation"] = [_encode(mask) for mask in instances.pred_masks]
    if instances.has("pred_keypoints"):
        # COCO stores indices of pixels, whose centres are at +0.5.
        shift = instances.pred_keypoints.new_tensor([0.5, 0.5, 0.0])
        columns["keypoints"] = (instances.pred_keypoints - shift).flatten(1).tolist()
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in rows]


def _encode(mask: Any) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(np.asarray(mask), dtype="uint8"))
    return {**rle, "counts": rle["counts"].decode("utf-8")}  # JSON has no bytes


def _evaluate_predictions_on_coco(
    coco_gt: COCO,
    coco_results: list[dict],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: Any = COCOeval_opt,
    img_ids: Sequence[Any] | None = None,
    max_dets_per_image: list[int] | None = None,
) -> Any:
    """Run COCO's evaluation and return the `COCOeval`, with stats for `max_dets_per_image`."""
    if not coco_results:
        raise AssertionError("there are no results to evaluate")
    if iou_type == "segm":
        # Without boxes the API computes areas from masks, as it should for "segm".
        coco_results = [{k: v for k, v in r.items() if k != "bbox"} for r in coco_results]
    with contextlib.redirect_stdout(io.StringIO()), _no_garbage_collection():
        coco_eval = cocoeval_fn(coco_gt, coco_gt.loadRes(coco_results), iou_type)
    if iou_type == "keypoints":
        _set_sigmas(coco_eval, kpt_oks_sigmas, coco_results)
    else:
        coco_eval.params.maxDets = max_dets_per_image or [1, 10, 100]
    if img_ids is not None:
        coco_eval.params.imgIds = img_ids
    with contextlib.redirect_stdout(io.StringIO()), _no_garbage_collection():
        coco_eval.evaluate()
        coco_eval.accumulate()
    coco_eval.stats = _summary(coco_eval, iou_type)
    return coco_eval


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Disable the cyclic garbage collector within the context.

    Detections become dicts by the hundred thousand, and scanning these for cycles takes a quarter
    of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _set_sigmas(
    coco_eval: Any, kpt_oks_sigmas: Sequence[float] | None, coco_results: list[dict]
) -> None:
    if kpt_oks_sigmas:
        coco_eval.params.kpt_oks_sigmas = np.array(kpt_oks_sigmas)
    predicted = len(coco_results[0]["keypoints"]) // 3
    annotated = len(next(iter(coco_eval.cocoGt.anns.values()))["keypoints"]) // 3
    sigmas = len(coco_eval.params.kpt_oks_sigmas)
    if not predicted == annotated == sigmas:
        raise AssertionError(
            f"[COCOEvaluator] Prediction contain {predicted} keypoints. Ground truth contains "
            f"{annotated} keypoints. The length of cfg.TEST.KEYPOINT_OKS_SIGMAS is {sigmas}. They "
            "have to agree with each other. For meaning of OKS, please refer to "
            "http://cocodataset.org/#keypoints-eval."
        )


def _summary(coco_eval: Any, iou_type: str) -> list[float]:
    """Return AP in [0, 1] in the order of `_METRICS`, at the highest limit; -1 without objects."""
    sizes = coco_eval.params.areaRngLbl

    def average(iou: float | None = None, size: str = "all") -> float:
        precision = coco_eval.eval["precision"][..., sizes.index(size), -1]
        if iou is not None:
            precision = precision[np.isclose(coco_eval.params.iouThrs, iou)]
        precision = precision[precision > -1]
        return float(np.mean(precision)) if precision.size else -1.0

    by_size = {"APs": "small", "APm": "medium", "APl": "large"}
    by_iou = {"AP": None, "AP50": 0.5, "AP75": 0.75}
    return [
        average(size=by_size[metric]) if metric in by_size else average(iou=by_iou[metric])
        for metric in _METRICS[iou_type]
    ]


_AREA_RANGES = {
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
    "96-128": (96**2, 128**2),
    "128-256": (128**2, 256**2),
    "256-512": (256**2, 512**2),
    "512-inf": (512**2, 1e5**2),
}


def _evaluate_box_proposals(
    dataset_predictions: list[dict],
    coco_api: COCO,
    thresholds: torch.Tensor | None = None,
    area: str = "all",
    limit: int | None = None,
) -> dict[str, Any]:
    """Compute the recall of objects by proposals, averaged over IoU thresholds from 0.5 to 0.95.

    Each object is matched to one proposal, in order of decreasing IoU.

    Args:
        dataset_predictions: "image_id" and "proposals" of each image.
        coco_api: the annotations.
        thresholds: (T,) IoU in [0, 1].
        area: name of a range of object areas.
        limit: maximum number of proposals per image.

    Returns:
        "ar", "recalls" (T,), "thresholds" (T,), "gt_overlaps" (objects,) sorted, "num_pos".
    """
    if area not in _AREA_RANGES:
        raise AssertionError(f"Unknown area range: {area}")
    overlaps, num_pos = [], 0
    for prediction in dataset_predictions:
        objects = _objects_of(prediction["image_id"], coco_api, _AREA_RANGES[area])
        num_pos += len(objects)
        if len(objects) and len(prediction["proposals"]):
            overlaps.append(_best_overlaps(prediction["proposals"], objects, limit))
    gt_overlaps = torch.cat(overlaps) if overlaps else torch.zeros(0)
    gt_overlaps, _ = torch.sort(gt_overlaps)
    if thresholds is None:
        # 1e-5, because `arange` excludes its end.
        thresholds = torch.arange(0.5, 0.95 + 1e-5, 0.05, dtype=torch.float32)
    recalls = torch.stack([(gt_overlaps >= t).float().sum() / float(num_pos) for t in thresholds])
    return {
        "ar": recalls.mean(),
        "recalls": recalls,
        "thresholds": thresholds,
        "gt_overlaps": gt_overlaps,
        "num_pos": num_pos,
    }


def _objects_of(image_id: Any, coco_api: COCO, area_range: tuple[float, float]) -> Boxes:
    """Return the boxes of an image's objects without crowds whose area is in the range."""
    annotations = coco_api.loadAnns(coco_api.getAnnIds(imgIds=image_id))
    boxes = [
        BoxMode.convert(annotation["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        for annotation in annotations
        if annotation.get("iscrowd", 0) == 0
        and area_range[0] <= annotation["area"] <= area_range[1]
    ]
    return Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def _best_overlaps(proposals: Instances, objects: Boxes, limit: int | None) -> torch.Tensor:
    """Return (objects,) IoU of each object with its own proposal, 0 if proposals run out."""
    order = proposals.objectness_logits.sort(descending=True)[1]
    boxes = proposals.proposal_boxes[order[:limit]]
    overlaps = pairwise_iou(boxes, objects)
    best = torch.zeros(len(objects))
    for position in range(min(len(boxes), len(objects))):
        # Greedy: the best pair of all is matched, and both are removed.
        per_object, proposal_of = overlaps.max(dim=0)
        best[position], chosen = per_object.max(dim=0)
        overlaps[proposal_of[chosen], :] = -1
        overlaps[:, chosen] = -1
    return best
