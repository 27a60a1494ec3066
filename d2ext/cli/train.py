"""The training command: train or evaluate a detector."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from d2ext.cli.parser import (
    CommandParser,
    count,
    device_name,
    positive_number,
    program,
    whole_number,
)
from d2ext.errors import UserError

EXAMPLES = """\
examples:
  the built-in set of shapes, on a CPU or a GPU:
    {train_net}
  your own data, with the recipe that fits it:
    {train_net} my/data
  a folder with its splits; or files, and a fifth of the images for evaluation:
    {train_net} --train my/data --epochs 24 --output runs/mine
    {train_net} --train my/train.json:my/images --val 0.2
  another model:
    {train_net} --config-file configs/dyhead_swint.yaml --train my/data
  continue after an interruption, with the data and settings of that run:
    {train_net} --resume --output runs/mine
  evaluate, on the validation data of the training or on others:
    {train_net} --eval-only --weights runs/mine/model_best.pth
    {train_net} --eval-only --weights runs/mine/model_best.pth --val my/val.json:my/images
"""

_DATA_FLAGS = {
    "--train": "a data set, its annotations, or ANNOTATIONS:IMAGES: COCO, Pascal VOC, YOLO, DOTA, "
    "labelme, CSV, semantic masks, COCO panoptic or Cityscapes; may be repeated",
    "--val": "the same for evaluation; or a number such as 0.2 or 20%%, the share of the training "
    "images to hold out (default: the validation split next to the training split, if there is "
    "one)",
    "--test": "the same, evaluated once after the training, with the best weights",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train or evaluate as the arguments say.

    Raises:
        UserError: config, data, weights or output folder are missing or wrong.
        Interrupted: Ctrl-C or SIGTERM; the training is saved.
    """
    words = sys.argv[1:] if argv is None else argv
    run_command(with_data(argument_parser().parse_args(words)), words)


def run_command(args: argparse.Namespace, words: Sequence[str]) -> Path:
    """Train or evaluate as parsed arguments say; return the folder of the run.

    Args:
        words: the arguments as they were typed, for the log.
    Raises:
        UserError, Interrupted: as `main`.
    """
    check_weights(args.opts)
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.data.catalog import forget_datasets
    from d2ext.engine.launch import launch, starts_processes
    from d2ext.engine.prepare import prepare
    from d2ext.engine.run_folder import release_folder
    from d2ext.engine.train import run

    spec = prepare(args)
    if starts_processes(args):
        forget_datasets()  # each process reads the data itself, and this one only waits
    spec.notes.insert(0, f"command: {shlex.join([sys.argv[0], *words])}")
    spec.programs = {tool: program(tool) for tool in ("train_net", "demo", "export", "report")}
    try:
        launch(run, args, spec, device=spec.cfg.MODEL.DEVICE)
    except UserError:
        release_folder(Path(spec.cfg.OUTPUT_DIR), failed=True)
        raise
    return Path(spec.cfg.OUTPUT_DIR)


def check_weights(opts: Sequence[str]) -> None:
    """Check, before PyTorch is imported, that published weights of MODEL.WEIGHTS can be had.

    Raises:
        WeightsError: they are not on this machine, and their server does not answer.
    """
    weights = dict(zip(opts[::2], opts[1::2], strict=False)).get("MODEL.WEIGHTS", "")
    if weights in ("", "auto") or os.path.exists(weights):
        return
    from d2ext.model_zoo import find_model, model_of_url
    from d2ext.model_zoo.fetch import check_obtainable

    entry = model_of_url(weights) if "://" in weights else find_model(weights)
    if entry is not None:  # others are known to plugins, or an error that says more
        check_obtainable(entry)


def with_data(args: argparse.Namespace) -> argparse.Namespace:
    """Take a path among the config values as that of `--train`."""
    words, opts = iter(args.opts), []
    for word in words:
        if os.path.exists(word.partition(":")[0]):
            args.train.append(word)
        else:
            opts += [word, *[value for value in (next(words, None),) if value is not None]]
    args.opts = opts
    return args


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/train_net.py: Detectron2's flags and ours."""
    parser = CommandParser("train_net", "Train or evaluate a detector.", EXAMPLES)
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="YAML config to start from")
    for flag, what in _DATA_FLAGS.items():
        add(flag, action="append", default=[], metavar="PATH", help=what)
    parser.add_config_flag("--epochs", "SOLVER.MAX_EPOCHS", "length of the training", whole_number)
    parser.add_config_flag("--batch", "SOLVER.IMS_PER_BATCH", "images per batch", whole_number)
    parser.add_config_flag("--lr", "SOLVER.BASE_LR", "learning rate", positive_number)
    parser.add_config_flag("--weights", "MODEL.WEIGHTS", "weights to start from or to evaluate")
    parser.add_config_flag("--output", "OUTPUT_DIR", "folder of the run (default: output)")
    parser.add_config_flag("--device", "MODEL.DEVICE", "cuda, cuda:1, cpu, ...", device_name)
    before = parser.add_mutually_exclusive_group()
    before.add_argument(
        "--resume", action="store_true", help="go on with the run in the output folder"
    )
    before.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run in the output folder (default: the new one gets a numbered folder)",
    )
    add("--eval-only", action="store_true", help="evaluate, do not train")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--quiet", action="store_true", help="print warnings and the result only")
    volume.add_argument("--verbose", action="store_true", help="print all that log.txt holds")
    add("--num-gpus", type=count, default=1, help="GPUs (or processes) on each machine")
    add("--num-machines", type=count, default=1, help="machines of the run")
    add("--machine-rank", type=count, default=0, help="which machine this is, from 0")
    add("--dist-url", default="auto", help="address of machine 0, tcp://HOST:PORT")
    parser.add_opts("config values, such as SOLVER.WARMUP_ITERS 100")
    return parser
