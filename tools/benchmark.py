#!/usr/bin/env python
"""Times d2ext beside what people use today.

    python tools/benchmark.py ops --threads 2 [deform_conv2d ...]
    python tools/benchmark.py models --threads 2
    python tools/benchmark.py data --official FOLDER_OF_DETECTRON2
    python tools/benchmark.py training mask_rcnn --official FOLDER_OF_DETECTRON2 --threads 1
    python tools/benchmark.py evaluation
    python tools/benchmark.py yolo_fastest --official FOLDER_OF_YOLO_FASTESTV2 \\
        --weights MODEL.pth --photos PHOTO.jpg...
    python tools/benchmark.py count [configs/coco/fcos_r50_fpn_1x.yaml ...]

For each problem one line a way to solve it: median time of a forward pass and of a forward and
backward pass, how many times faster that is than the peer's, and the most memory that it took
beyond its inputs (on CPUs under Linux only). For data loading images per second of one process,
for training seconds of a step and how far the losses of all steps differ, for evaluation seconds,
for YOLO-FastestV2 milliseconds from a photo's file to its boxes, for `count` the sizes of models.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator

import torch

from benchmarks import (
    counts,
    data_loading,
    deform_conv2d,
    evaluation,
    models,
    ms_deform_attn,
    roi_align,
    rotated_boxes,
    sigmoid_focal_loss,
    training,
    yolo_fastest,
)
from benchmarks.measure import Problem, report
from d2ext.ops import EXTENSION_STATE

DTYPES = ("float32", "bfloat16", "float16")
OPERATORS: dict[str, Callable[[torch.device, torch.dtype], Iterator[Problem]]] = {
    "box_iou_rotated": rotated_boxes.iou_problems,
    "deform_conv2d": deform_conv2d.problems,
    "ms_deform_attn": ms_deform_attn.problems,
    "nms_rotated": rotated_boxes.nms_problems,
    "roi_align": roi_align.upright_problems,
    "roi_align_rotated": roi_align.rotated_problems,
    "sigmoid_focal_loss": sigmoid_focal_loss.problems,
}
MODELS = {"dyhead": models.problems}
GROUPS = {"ops": OPERATORS, "models": MODELS}


def main() -> None:
    """Print the table that the arguments ask for."""
    parser = argument_parser()
    args = parser.parse_args()
    if args.command == "data":
        data_loading.report(args.official, args.images, args.repeats)
        return
    if args.command == "training":
        for name in args.names or training.MODELS:
            training.report(
                name, args.official, args.size, args.iterations, args.threads, args.repeats
            )
        return
    if args.command == "evaluation":
        evaluation.report(args.images, args.objects)
        return
    if args.command == "yolo_fastest":
        yolo_fastest.report(args.official, args.weights, args.photos, args.onnx, args.repeats)
        return
    if args.command == "count":
        counts.report(args.configs, (args.height, args.width))
        return
    group = GROUPS[args.command]
    unknown = [name for name in args.names if name not in group]
    if unknown:
        parser.error(f"{args.command} has no {', '.join(unknown)}; it has {', '.join(group)}")
    torch.set_num_threads(args.threads)
    where = f"{args.threads} threads" if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"{EXTENSION_STATE}; PyTorch {torch.__version__}, {args.dtype}, {where}")
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    made = (group[name](device, dtype) for name in args.names or group)
    report(itertools.chain.from_iterable(made), args.repeats)


def argument_parser() -> argparse.ArgumentParser:
    """The arguments: what to time, and how."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for title, group in GROUPS.items():
        command = commands.add_parser(title, help=", ".join(group))
        command.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(group)}")
        command.add_argument("--threads", type=int, default=torch.get_num_threads())
        command.add_argument("--repeats", type=int, default=5)
        command.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        command.add_argument("--dtype", choices=DTYPES, default="float32")
    data = commands.add_parser("data", help="data loading")
    data.add_argument("--official", metavar="FOLDER", help="holds the official detectron2")
    data.add_argument("--images", type=int, default=100)
    data.add_argument("--repeats", type=int, default=3)
    yolo = commands.add_parser("yolo_fastest", help="YOLO-FastestV2 beside its author's code")
    yolo.add_argument("--official", required=True, metavar="FOLDER", help="holds its repository")
    yolo.add_argument("--weights", required=True, metavar="FILE", help="the published .pth")
    yolo.add_argument("--photos", required=True, nargs="+", metavar="FILE")
    yolo.add_argument("--onnx", default="", metavar="FILE", help="exported from these weights")
    yolo.add_argument("--repeats", type=int, default=30)
    count = commands.add_parser("count", help="parameters and GFLOPs of models")
    count.add_argument("configs", nargs="*", metavar="CONFIG", help="all of configs/coco if none")
    count.add_argument("--height", type=int, default=800)
    count.add_argument("--width", type=int, default=1216)
    step = commands.add_parser("training", help=", ".join(training.MODELS))
    step.add_argument("names", nargs="*", choices=[*training.MODELS, []], metavar="NAME")
    step.add_argument("--official", metavar="FOLDER", help="holds the official detectron2")
    step.add_argument("--size", type=int, default=480, help="height of the images")
    step.add_argument("--iterations", type=int, default=4)
    step.add_argument("--threads", type=int, default=torch.get_num_threads())
    step.add_argument("--repeats", type=int, default=2)
    scores = commands.add_parser("evaluation", help="COCO's evaluation")
    scores.add_argument("--images", type=int, default=5000)
    scores.add_argument("--objects", type=int, default=36000)
    return parser


if __name__ == "__main__":
    main()
