"""Train or evaluate a prepared run, in every process."""

import argparse
import json
import logging
import math
import shlex
from pathlib import Path

import torch

from d2ext.config.plugins import import_plugins
from d2ext.data import register_datasets
from d2ext.engine.auto import describe
from d2ext.engine.build import explained_build
from d2ext.engine.hooks.pictures import save_prediction_pictures
from d2ext.engine.logs import RESULT, log_notes, logging_to
from d2ext.engine.prepare import RunSpec
from d2ext.engine.run_folder import remove_results
from d2ext.engine.summary import summary
from d2ext.engine.trainer import Trainer
from d2ext.errors import Interrupted
from d2ext.files import replacing
from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng

logger = logging.getLogger(__name__)
files_only = logging.getLogger("detectron2.d2ext")  # the screen shows d2ext's own lines

RESULTS = "results.json"  # numbers of --eval-only and of --test


def run(args: argparse.Namespace, spec: RunSpec) -> None:
    """Train or evaluate; every process calls it with the same arguments.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the training is saved.
    """
    cfg, rank = spec.cfg, comm.get_rank()
    cfg.OUTPUT_DIR = comm.all_gather(cfg.OUTPUT_DIR)[0]
    volume = "quiet" if args.quiet else "verbose" if args.verbose else "normal"
    with logging_to(Path(cfg.OUTPUT_DIR), rank, volume):
        log_notes(logger, spec.notes)
        set_up(cfg, args)
        import_plugins(cfg)  # new processes have neither plugins nor data sets; no effect elsewhere
        register_datasets(cfg)
        if args.eval_only:
            evaluate(cfg)
        else:
            train(cfg, args, spec)


def set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Log the environment, write config.yaml and seed the process, as `default_setup` does."""
    files_only.info("environment:\n%s", collect_env_info())
    files_only.info("arguments: %s", args)
    files_only.info("config:\n%s", cfg.dump())
    if comm.is_main_process():
        with replacing(Path(cfg.OUTPUT_DIR, "config.yaml")) as temporary:
            temporary.write_text(cfg.dump(), encoding="utf-8")
    seed_all_rng(cfg.SEED + comm.get_rank())
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


def train(cfg: CfgNode, args: argparse.Namespace, spec: RunSpec) -> None:
    """Train; evaluate the best weights on DATASETS.FINAL; log what there is and what to do next."""
    with explained_build():  # of optimizer and schedule, too
        trainer = Trainer(cfg)
    if spec.decided:
        logger.info(describe(spec.decided, cfg.DATASETS.TRAIN, trainer.sections))
    trainer.checkpointer.metadata["images"] = spec.images
    trainer.resume_or_load(resume=args.resume)
    if args.overwrite and not args.resume and comm.is_main_process():
        remove_results(Path(cfg.OUTPUT_DIR))
    try:
        trainer.train()
    except Interrupted as stop:
        command = f"{spec.programs['train_net']} --resume --output {shlex.quote(cfg.OUTPUT_DIR)}"
        more = f" --num-gpus {args.num_gpus}" if args.num_gpus != 1 else ""
        raise Interrupted(f"{stop}; go on with: {command}{more}", stop.signal) from None
    if cfg.DATASETS.FINAL:
        evaluate(_final_config(cfg, trainer.best_weights))
    if comm.is_main_process():
        for line in summary(trainer, spec.programs):
            logging.getLogger(RESULT).info(line)


def evaluate(cfg: CfgNode) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST; log the results and write them to OUTPUT_DIR."""
    model = Trainer.build_model(cfg)
    Trainer.load_weights(cfg, model)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
        save_prediction_pictures(cfg)
        found = flatten_results_dict(results)
        with replacing(Path(cfg.OUTPUT_DIR, RESULTS)) as temporary:
            numbers = {
                name: value if math.isfinite(value) else None for name, value in found.items()
            }
            temporary.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
        for name, value in found.items():
            logging.getLogger(RESULT).info("%s %.4g", name, value)
        logging.getLogger(RESULT).info("results are in %s", cfg.OUTPUT_DIR)


def _final_config(cfg: CfgNode, weights: Path) -> CfgNode:
    """Return the config that evaluates a training's best weights on DATASETS.FINAL."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST, cfg.MODEL.WEIGHTS = cfg.DATASETS.FINAL, str(weights)
    return cfg
