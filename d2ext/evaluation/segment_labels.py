"""Evaluators of semantic and instance models on panoptic data, whose segments say all of it."""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from d2ext.data.formats.dataset_split import Item
from d2ext.data.segment_maps import (
    label_map,
    position_map,
    read_segment_ids,
    segment_annotations,
    thing_numbers,
)
from d2ext.data.separate_things import THINGS, semantic_numbers
from d2ext.files import replacing
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode
from detectron2.utils import comm

_IGNORED = 255


class SegmentLabelEvaluator(DatasetEvaluator):
    """mIoU, frequency-weighted IoU, mean and pixel accuracy in percent of "sem_seg" scores.

    Classes are all categories of the data, or one class of all things and those of stuff. Those
    without an annotated pixel are left out of the means, and pixels without a segment count
    nowhere.

    Args:
        dataset_name: a registered data set whose dicts have "pan_seg_file_name".
        separate: the model numbers things and stuff apart, see `separate_things`.
    """

    def __init__(self, dataset_name: str, separate: bool = False) -> None:
        self.records = {record["file_name"]: record for record in DatasetCatalog.get(dataset_name)}
        metadata = MetadataCatalog.get(dataset_name)
        self.names, self.classes = list(metadata.stuff_classes), None
        if separate:
            self.classes = semantic_numbers(metadata.isthing)
            pairs = zip(self.names, metadata.isthing, strict=True)
            self.names = [THINGS, *(name for name, thing in pairs if not thing)]
        self.reset()

    def reset(self) -> None:
        self.confusion = np.zeros((len(self.names), len(self.names) + 1), dtype=np.int64)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        count = len(self.names)
        for item, output in zip(inputs, outputs, strict=True):
            record = self.records[item["file_name"]]
            segments = record["segments_info"]
            if self.classes is not None:
                numbers = [self.classes[segment["category_id"]] for segment in segments]
                pairs = zip(segments, numbers, strict=True)
                segments = [{**segment, "category_id": number} for segment, number in pairs]
            positions = position_map(read_segment_ids(record["pan_seg_file_name"]), segments)
            labels = label_map(positions, segments, _IGNORED)
            found = output["sem_seg"].argmax(dim=0).clamp(max=count).cpu().numpy()
            known = labels != _IGNORED
            pairs = labels[known].astype(np.int64) * (count + 1) + found[known]
            self.confusion += np.bincount(pairs, minlength=self.confusion.size).reshape(
                self.confusion.shape
            )

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        gathered = comm.gather(self.confusion)
        if not comm.is_main_process():
            return None
        confusion = np.sum(gathered, axis=0)
        annotated, correct = confusion.sum(axis=1), np.diag(confusion)
        unions = annotated + confusion[:, :-1].sum(axis=0) - correct
        known = annotated > 0
        iou = 100 * correct[known] / unions[known]
        names = [name for name, there in zip(self.names, known, strict=True) if there]
        return {
            "sem_seg": {
                "mIoU": float(iou.mean()),
                "fwIoU": float(iou @ annotated[known] / annotated.sum()),
                **{f"IoU-{name}": value for name, value in zip(names, iou.tolist(), strict=True)},
                "mACC": float((100 * correct[known] / annotated[known]).mean()),
                "pACC": float(100 * correct.sum() / annotated.sum()),
            }
        }


def write_things(dataset_name: str, path: Path) -> None:
    """Write the things of panoptic data as a COCO file; category ids count from 1."""
    metadata = MetadataCatalog.get(dataset_name)
    numbers = thing_numbers(metadata.isthing)
    images: list[Item] = []
    annotations: list[Item] = []
    for record in DatasetCatalog.get(dataset_name):
        keys = ("file_name", "height", "width")
        images.append({"id": record["image_id"], **{key: record[key] for key in keys}})
        segments = [segment for segment in record["segments_info"] if segment["isthing"]]
        positions = position_map(read_segment_ids(record["pan_seg_file_name"]), segments)
        for found in segment_annotations(positions, segments):
            annotation = _coco_annotation(found, numbers[found["category_id"]] + 1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": record["image_id"], **annotation}
            )
    categories = [
        {"id": number, "name": name} for number, name in enumerate(metadata.thing_classes, start=1)
    ]
    document = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    with replacing(path) as part:
        part.write_text(json.dumps(document), encoding="utf-8")


def _coco_annotation(found: Item, category: int) -> Item:
    mask = coco_mask.encode(np.asfortranarray(found["segmentation"]))
    return {
        "category_id": category,
        "bbox": BoxMode.convert(found["bbox"], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS),
        "area": int(coco_mask.area(mask)),
        "iscrowd": int(found["iscrowd"]),
        "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
    }
