"""The training command: train or evaluate a detector."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from d2ext.data.catalog import forget_datasets
from d2ext.engine.launch import launch, starts_processes
from d2ext.engine.prepare import prepare
from d2ext.engine.train import run
from detectron2.engine import default_argument_parser

EXAMPLES = """\
examples:
  the built-in set of shapes, on a CPU or a GPU:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1
  your own data: a folder with its splits; or files, and a fifth of the images for evaluation:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --train my/data
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 \\
        --train my/train.json:my/images --val 0.2
  continue after an interruption:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --resume
  evaluate:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --eval-only \\
        --val my/val.json:my/images MODEL.WEIGHTS output/model_final.pth
"""

_FLAGS = {
    "--train": "a data set, its annotations, or ANNOTATIONS:IMAGES: COCO, Pascal VOC, YOLO, DOTA, "
    "labelme, CSV, semantic masks, COCO panoptic or Cityscapes; may be repeated",
    "--val": "the same for evaluation; or a number such as 0.2, the share of the training images "
    "to hold out (default: the validation split next to the training split, if there is one)",
    "--test": "the same, evaluated once after the training, with the best weights",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train or evaluate as the arguments say.

    Raises:
        UserError: config, data, weights or output folder are missing or wrong.
    """
    args = argument_parser().parse_args(argv)
    spec = prepare(args)
    if starts_processes(args):
        forget_datasets()  # each process reads the data itself, and this one only waits
    words = [sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    spec.notes.insert(0, f"command: {shlex.join(words)}")
    launch(run, args, spec, device=spec.cfg.MODEL.DEVICE)


def argument_parser() -> argparse.ArgumentParser:
    """Build Detectron2's parser with `--train`, `--val` and `--test`."""
    parser = default_argument_parser(epilog=EXAMPLES)
    parser.description = "Train or evaluate a detector."
    for flag, what in _FLAGS.items():
        parser.add_argument(flag, action="append", default=[], metavar="PATH", help=what)
    return parser
