"""Defaults of a training run: arguments, logging, `DefaultTrainer`, `DefaultPredictor`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from fvcore.nn.precise_bn import get_bn_modules
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, LazyConfig
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data import transforms as T
from detectron2.evaluation import (
    DatasetEvaluator,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from . import hooks
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]

_EXAMPLES = """
Examples:

One machine:
    $ {program} --num-gpus 8 --config-file cfg.yaml

Some options changed:
    $ {program} --config-file cfg.yaml MODEL.WEIGHTS weights.pth SOLVER.BASE_LR 0.001

Several machines:
    (machine 0)$ {program} --machine-rank 0 --num-machines 2 --dist-url <URL> ...
    (machine 1)$ {program} --machine-rank 1 --num-machines 2 --dist-url <URL> ...
"""


def create_ddp_model(
    model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any
) -> nn.Module:
    """Wrap `model` in `DistributedDataParallel` if the run has several processes.

    Args:
        fp16_compression: compress gradients to half precision for communication.
        kwargs: options of `DistributedDataParallel`; `device_ids` is this process's GPU by
            default, and omitted for a model on the CPU.
    """
    if comm.get_world_size() == 1:
        return model
    if "device_ids" not in kwargs and any(p.is_cuda for p in model.parameters()):
        kwargs["device_ids"] = [comm.get_local_rank()]
    parallel = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        parallel.register_comm_hook(state=None, hook=default_hooks.fp16_compress_hook)
    return parallel


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Build the argument parser that training scripts share.

    Args:
        epilog: end of the help; examples by default.
    """
    parser = argparse.ArgumentParser(
        epilog=epilog or _EXAMPLES.format(program=sys.argv[0]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="YAML config to start from")
    add(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint in the output folder, if there is one",
    )
    add("--eval-only", action="store_true", help="evaluate, do not train")
    add("--num-gpus", type=int, default=1, help="GPUs (or processes) on each machine")
    add("--num-machines", type=int, default=1, help="machines of the run")
    add("--machine-rank", type=int, default=0, help="which machine this is, from 0")
    add(
        "--dist-url",
        default=f"tcp://127.0.0.1:{_port_of_user()}",
        help="where the processes find each other, as torch.distributed takes it, or 'auto'",
    )
    add(
        "opts",
        default=None,
        nargs=argparse.REMAINDER,
        help="options of the config: KEY VALUE pairs at the end of the command",
    )
    return parser


def _port_of_user() -> int:
    # Two users of one machine get different ports; Windows has no user ids.
    user = os.getuid() if hasattr(os, "getuid") else 1
    return 2**15 + 2**14 + hash(user) % 2**14


def default_setup(cfg: CfgNode | DictConfig, args: argparse.Namespace) -> None:
    """Set up logging and the random seed, and save the config, at the start of a run.

    Writes "log.txt" and "config.yaml" into `cfg.OUTPUT_DIR`.

    Args:
        cfg: a `CfgNode`, or a LazyConfig with "output_dir", "seed" etc. under "train".
        args: the command line, for the log; `config_file` and `eval_only` are read if present.
    """
    output_dir = _try_get_key(cfg, "OUTPUT_DIR", "output_dir", "train.output_dir", default="")
    rank = comm.get_rank()
    if comm.is_main_process() and output_dir:
        PathManager.mkdirs(output_dir)
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank)
    logger.info(f"Rank of current process: {rank}. World size: {comm.get_world_size()}")
    logger.info("Environment info:\n" + collect_env_info())
    logger.info("Command line arguments: " + str(args))
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r", encoding="utf-8") as file:
            logger.info(f"Contents of args.config_file={config_file}:\n{file.read()}")
    if comm.is_main_process() and output_dir:
        _save_config(cfg, output_dir, logger)
    seed = _try_get_key(cfg, "SEED", "train.seed", default=-1)
    # Ranks must draw different augmentations.
    seed_all_rng(None if seed < 0 else seed + rank)
    # Evaluation sees many image sizes once each: trying algorithms would not pay off.
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = _try_get_key(
            cfg, "CUDNN_BENCHMARK", "train.cudnn_benchmark", default=False
        )
    precision = _try_get_key(cfg, "FLOAT32_PRECISION", "train.float32_precision", default="")
    if precision:
        logger.info(f"Set float32 precision to {precision}")
        torch.set_float32_matmul_precision(precision)


def _try_get_key(cfg: CfgNode | DictConfig, *keys: str, default: Any = None) -> Any:
    """Return the value of the first of the keys, with dots, that the config has."""
    tree = OmegaConf.create(cfg.dump()) if isinstance(cfg, CfgNode) else cfg
    missing = object()
    values = (OmegaConf.select(tree, key, default=missing) for key in keys)
    return next((value for value in values if value is not missing), default)


def _highlight(code: str, filename: str) -> str:
    """Return code with terminal colours; unchanged if pygments is not installed or knows it not."""
    try:
        import pygments
        from pygments.formatters import Terminal256Formatter
        from pygments.lexers import get_lexer_for_filename
        from pygments.util import ClassNotFound
    except ImportError:
        return code
    try:
        lexer = get_lexer_for_filename(filename)
    except ClassNotFound:
        return code
    return pygments.highlight(code, lexer, Terminal256Formatter(style="monokai"))


def _save_config(cfg: CfgNode | DictConfig, output_dir: str, logger: logging.Logger) -> None:
    path = os.path.join(output_dir, "config.yaml")
    if not isinstance(cfg, CfgNode):
        logger.info(f"Running with full config:\n{LazyConfig.to_py(cfg, prefix='')}")
        LazyConfig.save(cfg, path)
        return
    logger.info(f"Running with full config:\n{cfg.dump()}")
    with PathManager.open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(cfg.dump())
    os.replace(path + ".tmp", path)
    logger.info(f"Full config saved to {path}")


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Build the writers to the log, to "metrics.json" and to TensorBoard event files.

    Args:
        output_dir: folder of the files.
        max_iter: iterations of the run; without it no remaining time is logged.
    """
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


class DefaultPredictor:
    """Predictor for one image at a time, with the weights and the resizing of a config.

    Reads `MODEL.WEIGHTS`, `INPUT.FORMAT`, `INPUT.MIN_SIZE_TEST`, `INPUT.MAX_SIZE_TEST`;
    `metadata` is that of the first dataset of `DATASETS.TEST`, if any.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()  # building the model may change it
        self.model = build_model(self.cfg)
        self.model.eval()
        if len(cfg.DATASETS.TEST):
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        short = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([short, short], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is RGB or BGR, got {self.input_format}")

    def __call__(self, original_image: np.ndarray) -> dict:
        """Return the model's output for one image (H, W, 3), uint8, in BGR order."""
        with torch.no_grad():
            if self.input_format == "RGB":
                # Callers pass BGR, as OpenCV reads images.
                original_image = original_image[:, :, ::-1]
            height, width = original_image.shape[:2]
            resized = self.aug.get_transform(original_image).apply_image(original_image)
            image = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
            image = image.to(self.cfg.MODEL.DEVICE)
            return self.model([{"image": image, "height": height, "width": width}])[0]


class DefaultTrainer(TrainerBase):
    """The trainer that a config describes; class methods build its parts and can be overridden.

    Attributes:
        cfg: the config, with the schedule scaled to the number of processes.
        scheduler: the learning rate schedule.
        checkpointer: a `DetectionCheckpointer` of the model and of this trainer.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()  # the script did not call default_setup
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        # Frozen and synchronised batch norms need no broadcast of buffers.
        model = create_ddp_model(model, broadcast_buffers=False)
        trainer = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # A weak reference avoids a cycle: the trainer holds the checkpointer.
        self.checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the weights, and when resuming also the training state.

        With `resume` and a last checkpoint in the output folder, that is loaded, with the
        optimizer, the schedule and the iteration; otherwise only `cfg.MODEL.WEIGHTS`.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1  # the checkpoint stores the last finished iteration

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks: timer, schedule, precise BN, checkpoints, evaluation, writers."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # precise BN's loader is rarely used: keep no idle workers
        result: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            loader = self.build_train_loader(cfg)
            num_iter = cfg.TEST.PRECISE_BN.NUM_ITER
            result.append(hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, num_iter))
        # Checkpoints come before the evaluation: if that fails, the weights are saved.
        if comm.is_main_process():
            period = cfg.SOLVER.CHECKPOINT_PERIOD
            result.append(hooks.PeriodicCheckpointer(self.checkpointer, period))
        result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        # Writers come last, after all hooks that record scalars.
        if comm.is_main_process():
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def _evaluate(self) -> dict:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> dict | None:  # type: ignore[override]
        """Train to `max_iter`.

        Returns:
            The results of the last evaluation, on the main process, if they are verified against
            `cfg.TEST.EXPECTED_RESULTS`.
        """
        super().train(self.start_iter, self.max_iter)
        if not len(self.cfg.TEST.EXPECTED_RESULTS) or not comm.is_main_process():
            return None
        if not hasattr(self, "_last_eval_results"):
            raise RuntimeError("TEST.EXPECTED_RESULTS is set, but nothing was evaluated")
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @property
    def model(self) -> nn.Module:
        return self._trainer.model

    @model.setter
    def model(self, value: nn.Module) -> None:
        self._trainer.model = value

    @property
    def data_loader(self) -> Iterable:
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, value: Iterable) -> None:
        self._trainer.data_loader = value

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, value: torch.optim.Optimizer) -> None:
        self._trainer.optimizer = value

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logging.getLogger(__name__).info(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Build the evaluator of a dataset; there is no default one."""
        raise NotImplementedError(
            "DefaultTrainer has no evaluator: subclass it and implement `build_evaluator()`, "
            "or set TEST.EVAL_PERIOD to 0 and do not evaluate."
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
    ) -> dict:
        """Evaluate on `cfg.DATASETS.TEST`.

        Args:
            evaluators: one per dataset; by default from `build_evaluator`.

        Returns:
            The results by dataset, or of the dataset if there is only one.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(f"{len(evaluators)} evaluators for {len(names)} datasets")
        results: dict[str, Any] = OrderedDict()
        for index, name in enumerate(names):
            evaluator = evaluators[index] if evaluators is not None else None
            results[name] = cls._test_one(cfg, model, name, evaluator)
        return next(iter(results.values())) if len(results) == 1 else results

    @classmethod
    def _test_one(
        cls, cfg: CfgNode, model: nn.Module, name: str, evaluator: DatasetEvaluator | None
    ) -> dict:
        logger = logging.getLogger(__name__)
        loader = cls.build_test_loader(cfg, name)
        if evaluator is None:
            try:
                evaluator = cls.build_evaluator(cfg, name)
            except NotImplementedError:
                logger.warning(
                    "No evaluator found. Use `DefaultTrainer.test(evaluators=)`, "
                    "or implement its `build_evaluator` method."
                )
                return {}
        results = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            if not isinstance(results, dict):
                raise TypeError(f"an evaluator of {name} gave no dict on rank 0: {results!r}")
            logger.info(f"Evaluation results for {name} in csv format:")
            print_csv_format(results)
        return results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Scale the schedule to a number of processes other than the one it was made for.

        With `SOLVER.REFERENCE_WORLD_SIZE` not 0 and other than `num_workers`, batch size and
        learning rate grow with the ratio of the two and everything in iterations shrinks with it
        (Goyal et al. 2017, arXiv:1706.02677).

        Returns:
            A frozen copy, or `cfg` itself if nothing changes.

        Raises:
            ValueError: the batch size does not divide by the reference.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        frozen = cfg.is_frozen()
        cfg = cfg.clone()
        cfg.defrost()
        solver, scale = cfg.SOLVER, num_workers / reference
        if solver.IMS_PER_BATCH % reference:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} is no multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )
        # The linear scaling rule: the same number of epochs with larger batches and rates.
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR = solver.BASE_LR * scale
        solver.MAX_ITER = round(solver.MAX_ITER / scale)
        solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        solver.CHECKPOINT_PERIOD = round(solver.CHECKPOINT_PERIOD / scale)
        cfg.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logging.getLogger(__name__).info(
            f"Auto-scaling the config to batch_size={solver.IMS_PER_BATCH}, "
            f"learning_rate={solver.BASE_LR}, max_iter={solver.MAX_ITER}, "
            f"warmup={solver.WARMUP_ITERS}."
        )
        if frozen:
            cfg.freeze()
        return cfg
