"""The prediction command: run a model on images, videos or a camera."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2ext.cli.parser import CommandParser, count, device_name
from d2ext.errors import ConfigError
from d2ext.files import check_output_folder

if TYPE_CHECKING:
    from detectron2.config import CfgNode

FORMATS = ("coco", "csv", "yolo")  # registered by `d2ext.inference.writers`

EXAMPLES = """\
examples:
  {demo} --weights output/model_best.pth --input a.jpg photos/ "*.mp4" --output predictions
  {demo} --weights output/model_best.pth --input photos/ --no-pictures --format coco csv
  {demo} --weights output/model_best.pth --input clip.mp4 frames/ --track
  {demo} --weights output/model_best.pth --camera 0
  {demo} --config-file configs/coco/fcos_r50_fpn_1x.yaml --weights official.pth --input a.jpg

The command writes annotated copies of images and videos, and predictions.json: per image, and per
frame of a video, the detections, each with box (x0, y0, x1, y1 in pixels), score, class and, if the
model predicts them, mask (COCO run lengths) and keypoints (x, y, score). predictions.jsonl holds
the same line by line and grows while the command runs. For a camera it writes the video only. With
--track, an object keeps its number over the frames of a video, and over the images of a folder in
the order of their numbers: it is drawn, and the "track_id" of a detection. A
semantic segmentation model gives one region per class: its mask, the box around it, and as score
the mean probability of its pixels. A model whose input is not a single image, such as DETR3D, takes
inputs of its own: see the README of its project.

Exit status: 0, 1 if some of the files could not be used, 2 if none could or an argument is wrong.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Predict as the arguments say; return the exit status.

    Raises:
        UserError: config, weights or inputs are missing or wrong. Unreadable images are reported
            after all others are done.
    """
    args = argument_parser().parse_args(argv)
    if not 0 <= args.confidence <= 1:
        raise ConfigError(f"--confidence is a score from 0 to 1, got {args.confidence}.")
    check_output_folder(Path(args.output), "--output")
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.engine.config_choice import load_trained_config
    from d2ext.inference.demos import DemoRequest, find_demo

    cfg = load_trained_config(args.config_file, args.opts)
    demo = find_demo(cfg)
    if demo is None:
        return _predict_images(cfg, args)
    if args.camera is not None:
        name = cfg.MODEL.META_ARCHITECTURE
        raise ConfigError(f"--camera: {name} does not take single images; use --input.")
    if args.track:
        raise ConfigError(f"--track: {cfg.MODEL.META_ARCHITECTURE} cannot be tracked.")
    demo(DemoRequest(cfg, args.input, Path(args.output), args.confidence))
    return 0


def _predict_images(cfg: "CfgNode", args: argparse.Namespace) -> int:
    from d2ext.files import make_folder
    from d2ext.inference.camera import watch
    from d2ext.inference.inputs import find_inputs
    from d2ext.inference.predict import Job, PredictOptions
    from d2ext.inference.predictor import Predictor
    from d2ext.inference.tracking import RATE

    output = Path(args.output)
    inputs = find_inputs(args.input, output) if args.input else {}
    predictor = Predictor(cfg)
    make_folder(output, "--output")
    on_gpu = predictor.device.type == "cuda"
    options = PredictOptions(
        confidence=args.confidence,
        pictures=args.pictures,
        formats=args.format,
        batch=args.batch,
        # On a CPU the model needs the cores itself.
        workers=_workers(on_gpu) if args.workers is None else args.workers,
        quiet=args.quiet,
        track=args.track,
    )
    job = Job(predictor, output, options)
    if args.camera is not None:
        tracker = job.new_tracker(RATE)
        watch(args.camera, output, lambda frame, timer: job.predict(frame, timer, tracker))
        return 0
    job.run(inputs)
    return job.report(list(inputs))


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/demo.py."""
    parser = CommandParser("demo", "Find objects in images with a trained model.", EXAMPLES)
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="config (default: that of the weights)")
    parser.add_config_flag("--weights", "MODEL.WEIGHTS", "weights of the model; needed")
    parser.add_config_flag("--device", "MODEL.DEVICE", "cuda, cuda:1, cpu, ...", device_name)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="images, videos, folders of them, patterns")
    source.add_argument("--camera", type=count, metavar="INDEX", help="a camera; the first is 0")
    add("--output", default="predictions", help="folder to write to")
    add(
        "--confidence",
        type=float,
        default=0.5,
        help="minimum score of a detection (default: 0.5); the model has a lower limit of its own",
    )
    add("--track", action="store_true", help="number objects over the frames of videos and folders")
    add("--no-pictures", dest="pictures", action="store_false", help="write no annotated copies")
    add("--format", nargs="+", default=[], choices=FORMATS, help="also write detections like this")
    add("--batch", type=count, default=0, help="images per batch (default: by their size)")
    add("--workers", type=count, help="processes that read images (default: 4 for a GPU, else 0)")
    add("--quiet", action="store_true", help="show no progress")
    parser.add_opts()
    return parser


def _workers(on_gpu: bool) -> int:
    return min(4, max(0, (os.cpu_count() or 1) - 1)) if on_gpu else 0
