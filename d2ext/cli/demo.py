"""The prediction command: run a model on images, videos or a camera."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from d2ext.config import load_config
from d2ext.errors import ConfigError
from d2ext.inference.camera import watch
from d2ext.inference.demos import DemoRequest, find_demo
from d2ext.inference.inputs import find_inputs
from d2ext.inference.predict import Job
from d2ext.inference.predictor import Predictor
from detectron2.config import CfgNode

EXAMPLES = """\
examples:
  python tools/demo.py --config-file configs/dyhead_swint.yaml --input a.jpg photos/ "*.mp4" \\
      --output predictions --confidence 0.4 MODEL.WEIGHTS output/model_final.pth
  python tools/demo.py --config-file configs/dyhead_swint.yaml --camera 0 \\
      MODEL.WEIGHTS output/model_final.pth

The command writes annotated copies of images and videos, and predictions.json: per image, and per
frame of a video, the detections, each with box (x0, y0, x1, y1 in pixels), score, class and, if the
model predicts them, mask (COCO run lengths) and keypoints (x, y, score). For a camera it writes the
video only. A semantic segmentation model gives one region per class: its mask, the box around it,
and as score the mean probability of its pixels. A model whose input is not a single image, such as
DETR3D, takes inputs of its own: see the README of its project.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Predict as the arguments say.

    Raises:
        UserError: config, weights or inputs are missing or wrong. Unreadable images are reported
            after all others are done.
    """
    args = argument_parser().parse_args(argv)
    if not 0 <= args.confidence <= 1:
        raise ConfigError(f"--confidence is a score from 0 to 1, got {args.confidence}.")
    cfg = load_config(args.config_file, args.opts)
    demo = find_demo(cfg)
    if demo is None:
        _predict_images(cfg, args)
    elif args.camera is None:
        demo(DemoRequest(cfg, args.input, Path(args.output), args.confidence))
    else:
        name = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"--camera: {name} does not take single images; use --input.")


def _predict_images(cfg: CfgNode, args: argparse.Namespace) -> None:
    output = Path(args.output)
    inputs = find_inputs(args.input, output) if args.input else {}
    predictor = Predictor(cfg)
    job = Job(predictor, output, args.confidence)
    if args.camera is not None:
        watch(args.camera, output, lambda frame, stopwatch: job.predict(frame, stopwatch).picture)
        return
    job.run(inputs)
    job.report(len(inputs))


def argument_parser() -> argparse.ArgumentParser:
    """Build the argument parser of tools/demo.py."""
    parser = argparse.ArgumentParser(
        description="Find objects in images with a trained model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config-file", required=True, help="the config of the training, e.g. output/config.yaml"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="images, videos, folders of them, patterns")
    source.add_argument("--camera", type=int, metavar="INDEX", help="a camera; the first is 0")
    parser.add_argument("--output", default="predictions", help="folder to write to")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.5,
        help="minimum score of a detection (default: 0.5); the model has a lower limit of its own",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config values; MODEL.WEIGHTS is needed",
    )
    return parser
