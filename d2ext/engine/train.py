"""The training command: prepare, then train or evaluate in every process."""

import argparse
import logging
from collections.abc import Sequence

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
  your own data, COCO annotations and a folder of images:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 \\
        --train my/train.json:my/images --val my/val.json:my/images
  go on after an interruption:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --resume
  evaluate:
    python tools/train_net.py --config-file configs/dyhead_swint.yaml --num-gpus 1 --eval-only \\
        --val my/val.json:my/images MODEL.WEIGHTS output/model_final.pth
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Train or evaluate as the arguments say.

    Raises:
        UserError: something is wrong with config, data, weights or output folder.
    """
    args = argument_parser().parse_args(argv)
    prepared = prepare(args)
    launch(run, args, prepared, device=prepared.cfg.MODEL.DEVICE)


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's arguments, `--train` and `--val`."""
    parser = default_argument_parser(epilog=EXAMPLES)
    parser.description = "Train or evaluate a detector."
    for flag in ("--train", "--val"):
        parser.add_argument(
            flag,
            action="append",
            default=[],
            metavar="ANNOTATIONS:IMAGES",
            help="COCO annotations and the folder of their images; may be repeated",
        )
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
