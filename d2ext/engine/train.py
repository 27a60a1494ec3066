"""The training command: prepare, then train or evaluate in every process."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from d2ext.data import register_datasets
from d2ext.engine.hooks.pictures import save_prediction_pictures
from d2ext.engine.launch import launch
from d2ext.engine.prepare import Prepared, prepare
from d2ext.engine.trainer import Trainer
from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

EXAMPLES = """\
examples:
  the built-in set of shapes, on a CPU or a GPU:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1
  your own data: a folder with its splits; or files, and a fifth of the images for evaluation:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --train my/data
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 \\
        --train my/train.json:my/images --val 0.2
  go on after an interruption:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --resume
  evaluate:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --eval-only \\
        --val my/val.json:my/images MODEL.WEIGHTS output/model_final.pth
"""

_FLAGS = {
    "--train": "a data set, its annotations, or ANNOTATIONS:IMAGES: COCO, Pascal VOC, YOLO, DOTA, "
    "labelme, CSV or semantic masks; may be repeated",
    "--val": "the same for evaluation; or a number such as 0.2, the share of the training images "
    "to hold out; without it the validation split beside the training split, if there is one",
    "--test": "the same, evaluated once after the training, with the best weights",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train or evaluate as the arguments say.

    Raises:
        UserError: something is wrong with config, data, weights or output folder.
    """
    args = argument_parser().parse_args(argv)
    prepared = prepare(args)
    words = [sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    prepared.notes.insert(0, f"command: {shlex.join(words)}")
    launch(run, args, prepared, device=prepared.cfg.MODEL.DEVICE)


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's arguments, `--train`, `--val` and `--test`."""
    parser = default_argument_parser(epilog=EXAMPLES)
    parser.description = "Train or evaluate a detector."
    for flag, what in _FLAGS.items():
        parser.add_argument(flag, action="append", default=[], metavar="PATH", help=what)
    return parser


def run(args: argparse.Namespace, prepared: Prepared) -> None:
    """What every process does."""
    cfg = prepared.cfg
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="d2ext")
    for note in prepared.notes:
        logger.info(note)
    default_setup(cfg, args)
    register_datasets(cfg)
    if args.eval_only:
        evaluate(prepared)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if cfg.DATASETS.FINAL:
        evaluate(_final(prepared))


def _final(prepared: Prepared) -> Prepared:
    """The evaluation of the best weights on DATASETS.FINAL, after a training."""
    cfg = prepared.cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = cfg.DATASETS.FINAL
    best = Path(cfg.OUTPUT_DIR, "model_best.pth")
    cfg.MODEL.WEIGHTS = str(best if best.exists() else best.with_name("model_final.pth"))
    return Prepared(cfg, [])


def evaluate(prepared: Prepared) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST; results are logged and written."""
    cfg = prepared.cfg
    model = Trainer.build_model(cfg)
    Trainer.load_weights(cfg, model)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
        save_prediction_pictures(cfg)
        logging.getLogger(__name__).info("results are in %s", cfg.OUTPUT_DIR)
