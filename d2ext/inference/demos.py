"""Prediction commands of models whose input is not a single image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode


@dataclass(frozen=True)
class DemoRequest:
    """What the arguments of `tools/demo.py` ask for.

    Attributes:
        cfg: of the model, with MODEL.WEIGHTS.
        inputs: the words of `--input`; what they may name is up to the demo.
        output: folder to write to.
        confidence: minimum score of what is drawn and written, 0 to 1.
    """

    cfg: CfgNode
    inputs: Sequence[str]
    output: Path
    confidence: float


Demo = Callable[[DemoRequest], None]

_DEMOS: ExtensionRegistry[str, Demo] = ExtensionRegistry("demo")


def register_demo(meta_architecture: str, demo: Demo) -> None:
    """Register what `tools/demo.py` does for a model whose input is not a single image.

    A project calls it when it is imported. Models without a demo get images, videos and cameras.

    Args:
        meta_architecture: value of MODEL.META_ARCHITECTURE.
        demo: finds the inputs, runs the model, writes pictures and predictions.json to the output
            folder, and raises a `UserError` where an input is missing or unreadable.
    Raises:
        ValueError: the meta-architecture has a demo.
    """
    _DEMOS.register(meta_architecture, demo)


def find_demo(cfg: CfgNode) -> Demo | None:
    """Return the demo of the config's meta-architecture, if it has one of its own."""
    name = cfg.MODEL.META_ARCHITECTURE
    return _DEMOS.get(name, "MODEL.META_ARCHITECTURE") if name in _DEMOS else None
