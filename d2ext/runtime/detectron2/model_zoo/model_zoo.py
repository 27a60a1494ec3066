"""Configs and checkpoint URLs of the published baselines."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model

from .checkpoints import PREFIX, RUNS, checkpoint_path

_CONFIGS = Path(__file__).parent / "configs"


class _ModelZooUrls:
    """Names and addresses of the published checkpoints, for packages that list them.

    An address is `S3_PREFIX`, the name of the config without its ending, "/" and the suffix.
    """

    S3_PREFIX = PREFIX
    CONFIG_PATH_TO_URL_SUFFIX: ClassVar[dict[str, str]] = {
        name: str(checkpoint_path(name)).removeprefix(f"{name}/")
        for name in (f"{folder}/{config}" for folder, runs in RUNS.items() for config in runs)
    }

    @staticmethod
    def query(config_path: str) -> str | None:
        """Return the address of the checkpoint of a config; None if there is none."""
        path = checkpoint_path(config_path.removesuffix(".yaml").removesuffix(".py"))
        return None if path is None else PREFIX + path


def get_checkpoint_url(config_path: str) -> str:
    """Return the URL of the checkpoint of a config.

    An example of a config is "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml".

    Raises:
        RuntimeError: no checkpoint was published.
    """
    url = _ModelZooUrls.query(config_path)
    if url is None:
        raise RuntimeError(
            f"No checkpoint was published for {config_path}; there are some in {', '.join(RUNS)}."
        )
    return url


def get_config_file(config_path: str) -> str:
    """Return the file of a config, given by its path below "configs/".

    Raises:
        RuntimeError: the config does not exist.
    """
    file = _CONFIGS / config_path
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else _CONFIGS
        known = ", ".join(sorted(path.name for path in folder.iterdir()))
        raise RuntimeError(f"{config_path} is not in the model zoo; {folder.name} has {known}.")
    return str(file)


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """Load a config of the model zoo: a `CfgNode` from `.yaml`, a `DictConfig` from `.py`.

    Args:
        config_path: path below "configs/".
        trained: set the published checkpoint as its weights, instead of the initial ones.
    """
    file = get_config_file(config_path)
    if file.endswith(".py"):
        lazy = LazyConfig.load(file)
        if trained:
            lazy.train.init_checkpoint = get_checkpoint_url(config_path)
        return lazy
    cfg = get_cfg()
    cfg.merge_from_file(file)
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> torch.nn.Module:
    """Build a model of the model zoo with its weights, in training mode.

    Args:
        config_path, trained: as in `get_config`.
        device: by default the config's, or the CPU if there is no CUDA.
    """
    cfg: Any = get_config(config_path, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if isinstance(cfg, CfgNode):
        cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
        model, weights = build_model(cfg), cfg.MODEL.WEIGHTS
    else:
        model = instantiate(cfg.model).to(device or cfg.get("train", {}).get("device", "cuda"))
        weights = cfg.get("train", {}).get("init_checkpoint", "")
    DetectionCheckpointer(model).load(weights)
    return model
