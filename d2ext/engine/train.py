"""Train or evaluate a prepared run, in every process."""

import argparse
import logging
from pathlib import Path

from d2ext.data import register_datasets
from d2ext.engine.hooks.pictures import save_prediction_pictures
from d2ext.engine.prepare import RunSpec
from d2ext.engine.trainer import Trainer
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger


def run(args: argparse.Namespace, spec: RunSpec) -> None:
    """Train or evaluate; every process calls it with the same arguments."""
    cfg = spec.cfg
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="d2ext")
    for note in spec.notes:
        logger.info(note)
    default_setup(cfg, argparse.Namespace(**{**vars(args), "config_file": spec.config_file}))
    register_datasets(cfg)  # new processes don't inherit the catalog; no effect in the first one
    if args.eval_only:
        evaluate(cfg)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if cfg.DATASETS.FINAL:
        evaluate(_final_config(cfg))


def evaluate(cfg: CfgNode) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST; log the results and write them to OUTPUT_DIR."""
    model = Trainer.build_model(cfg)
    Trainer.load_weights(cfg, model)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        verify_results(cfg, results)
        save_prediction_pictures(cfg)
        logging.getLogger(__name__).info("results are in %s", cfg.OUTPUT_DIR)


def _final_config(cfg: CfgNode) -> CfgNode:
    """Return the config that evaluates a training's best weights on DATASETS.FINAL."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = cfg.DATASETS.FINAL
    best = Path(cfg.OUTPUT_DIR, "model_best.pth")
    cfg.MODEL.WEIGHTS = str(best if best.exists() else best.with_name("model_final.pth"))
    return cfg
