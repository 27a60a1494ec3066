"""COCO evaluation compared with pycocotools', on made-up objects and detections."""

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import d2ext  # noqa: F401
from benchmarks.registry import register_benchmark
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

GOAL, CLASSES, SIZE = 8.0, 80, (480, 640)
PER_OBJECT = 3  # detections


def report(images: int, objects: int) -> None:
    """Print the seconds of both evaluations and the largest difference of their metrics.

    Args:
        images: number of images, 640x480 pixels each.
        objects: number of objects in all images; there are three times as many detections.
    """
    print(f"\nCOCO's evaluation, {images} images, {objects} objects  [goal: {GOAL:g}x]")
    with tempfile.TemporaryDirectory() as folder:
        truth, labels = _make_objects(images, objects)
        name = _register_dataset(Path(folder), truth, labels)
        found = {"d2ext": True, "pycocotools": False}
        seconds, results = {}, {}
        for who, fast in found.items():
            seconds[who], results[who] = _evaluate(name, truth, labels, fast)
    for who in found:
        print(f"  {who:24} {seconds[who]:9.2f} s {seconds['pycocotools'] / seconds[who]:6.1f}x")
    own, theirs = (np.array(list(results[who]["bbox"].values())) for who in found)
    print(f"  AP {theirs[0]:.3f}, {len(theirs)} numbers: largest difference", end=" ")
    print(f"{np.nanmax(np.abs(own - theirs)):.1e}")


def _make_objects(images: int, objects: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return random XYXY boxes and classes for each image."""
    rng = np.random.default_rng(0)
    counts = np.bincount(rng.integers(0, images, objects), minlength=images)
    truth = []
    for count in counts:
        corner, side = rng.uniform(0, 0.7, (count, 2)), rng.uniform(0.02, 0.3, (count, 2))
        truth.append(np.concatenate([corner, corner + side], axis=1) * [*SIZE[::-1], *SIZE[::-1]])
    return truth, [rng.integers(0, CLASSES, count) for count in counts]


def _register_dataset(folder: Path, truth: list[np.ndarray], labels: list[np.ndarray]) -> str:
    annotations = [
        {
            "image_id": image,
            "category_id": int(label) + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": 0,
        }
        for image, (boxes, classes) in enumerate(zip(truth, labels, strict=True))
        for (x0, y0, x1, y1), label in zip(boxes.tolist(), classes, strict=True)
    ]
    whole = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]}
            for i in range(len(truth))
        ],
        "annotations": [{"id": i + 1, **about} for i, about in enumerate(annotations)],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)],
    }
    (folder / "val.json").write_text(json.dumps(whole), encoding="utf-8")
    name = "made_up_for_evaluation"
    register_coco_instances(name, {}, str(folder / "val.json"), str(folder))
    MetadataCatalog.get(name).set(
        thing_dataset_id_to_contiguous_id={i + 1: i for i in range(CLASSES)},
        thing_classes=[f"class {i}" for i in range(CLASSES)],
    )
    return name


def _evaluate(
    name: str, truth: list[np.ndarray], labels: list[np.ndarray], fast: bool
) -> tuple[float, dict[str, Any]]:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOEvaluator(name, use_fast_impl=fast)
        evaluator.reset()
        for image, output in enumerate(_make_detections(truth, labels)):
            evaluator.process([{"image_id": image}], [{"instances": output}])
        start = time.perf_counter()
        results = evaluator.evaluate()
    return time.perf_counter() - start, results


def _make_detections(truth: list[np.ndarray], labels: list[np.ndarray]) -> list[Instances]:
    """Return the objects, jittered; one in five detections has a random class."""
    rng = np.random.default_rng(1)
    found = []
    for boxes, classes in zip(truth, labels, strict=True):
        repeated = np.repeat(boxes, PER_OBJECT, axis=0)
        moved = repeated + rng.normal(0, 8, repeated.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        wrong = rng.random(len(moved)) < 0.2
        guessed = rng.integers(0, CLASSES, len(moved))
        output = Instances(SIZE)
        output.pred_boxes = Boxes(torch.from_numpy(moved).float())
        output.scores = torch.from_numpy(rng.random(len(moved)))
        output.pred_classes = torch.from_numpy(
            np.where(wrong, guessed, np.repeat(classes, PER_OBJECT))
        )
        found.append(output)
    return found


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    # About as many as in COCO's val2017.
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=36000, help="in all images together")


def _run(args: argparse.Namespace) -> None:
    report(args.images, args.objects)


register_benchmark("evaluation", "COCO evaluation compared with pycocotools'", _add_arguments, _run)
