"""YOLO-FastestV2 compared with its author's code: from image file to boxes, on one thread."""

import argparse
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

import d2ext.modeling  # noqa: F401
from benchmarks.registry import register_benchmark
from d2ext.config import load_config
from d2ext.inference.predictor import Predictor
from detectron2.data.detection_utils import read_image

CONFIG = Path(__file__).parents[2] / "projects/yolo_fastest/configs/yolo_fastest_v2_coco.yaml"
THRESHOLD, NMS = 0.3, 0.4
SIDE = 352
GOALS = {"d2ext": 0.7, "onnxruntime": 0.4}
Boxes = Tensor | np.ndarray
Way = Callable[[Path], Boxes]


def report(official: str, weights: str, photos: list[str], onnx: str, repeats: int) -> None:
    """Print the median time of each way and its ratio to the official one.

    Args:
        official: folder that holds https://github.com/dog-qiuqiu/Yolo-FastestV2.
        weights: the published .pth file.
        photos: image files; the ways take turns on each.
        onnx: file that tools/export.py made of the same weights, or "" to leave it out.
        repeats: timed calls per photo.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    ways = {"official": official_way(Path(official), weights), "d2ext": own_way(weights)}
    if onnx:
        ways["onnxruntime"] = onnx_way(onnx)
    times: dict[str, list[float]] = {name: [] for name in ways}
    # In turns, so that all ways see the same load of the machine.
    for turn in range(repeats + 2):
        for photo in photos:
            for name, way in ways.items():
                start = time.perf_counter()
                way(Path(photo))
                if turn >= 2:  # after two to warm up
                    times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"\nYOLO-FastestV2, {SIDE}x{SIDE}, one thread, from file to boxes, {len(photos)} photos")
    for name, median in medians.items():
        goal = f"  [goal: {GOALS[name]:.0%}]" if name in GOALS else ""
        share = median / medians["official"]
        print(f"  {name:16} {median:7.2f} ms, best {min(times[name]):7.2f}  {share:6.1%}{goal}")


def own_way(weights: str) -> Way:
    """Return d2ext's predictor, from file to boxes."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights]
    threshold = ["MODEL.YOLO_FASTEST.SCORE_THRESH_TEST", str(THRESHOLD)]
    predictor = Predictor(load_config(CONFIG, options + threshold))
    return lambda photo: predictor(read_image(str(photo), "RGB"))["instances"].pred_boxes.tensor


def official_way(folder: Path, weights: str) -> Way:
    """Return the author's code, called as its own test script does."""
    sys.path.insert(0, str(folder))
    # It imports a package that prints a summary of the model; nothing here needs that.
    sys.modules.setdefault("torchsummary", types.SimpleNamespace(summary=None))  # type: ignore
    from model.detector import Detector  # type: ignore[import-not-found]
    from utils import utils  # type: ignore[import-not-found]

    settings: dict[str, Any] = utils.load_datafile(str(folder / "data" / "coco.data"))
    model = Detector(settings["classes"], settings["anchor_num"], True).eval()
    model.load_state_dict(torch.load(weights, map_location="cpu"))

    @torch.no_grad()
    def run(photo: Path) -> Tensor:
        image = cv2.imread(str(photo))
        resized = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        pixels = torch.from_numpy(resized.reshape(1, SIDE, SIDE, 3).transpose(0, 3, 1, 2))
        outputs = utils.handel_preds(model(pixels.float() / 255.0), settings, torch.device("cpu"))
        (found,) = utils.non_max_suppression(outputs, conf_thres=THRESHOLD, iou_thres=NMS)
        return found[:, :4] * _scale(image)

    return run


def onnx_way(path: str) -> Way:
    """Return onnxruntime on a file that tools/export.py wrote with NMS inside."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(photo: Path) -> np.ndarray:
        image = cv2.imread(str(photo))
        resized = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        pixels = resized.transpose(2, 0, 1)[None].astype(np.float32, order="C")
        boxes, scores = session.run(None, {name: pixels})[:2]
        return boxes[scores > THRESHOLD] * _scale(image).numpy()

    return run


def _scale(image: np.ndarray) -> Tensor:
    height, width = image.shape[:2]
    return torch.tensor([width, height, width, height]) / SIDE


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--official", required=True, metavar="FOLDER", help="holds its repository")
    parser.add_argument("--weights", required=True, metavar="FILE", help="the published .pth")
    parser.add_argument("--photos", required=True, nargs="+", metavar="FILE")
    parser.add_argument("--onnx", default="", metavar="FILE", help="exported from these weights")
    parser.add_argument("--repeats", type=int, default=30, help="timed calls per photo")


def _run(args: argparse.Namespace) -> None:
    report(args.official, args.weights, args.photos, args.onnx, args.repeats)


register_benchmark(
    "yolo_fastest", "YOLO-FastestV2 compared with its author's code", _add_arguments, _run
)
