"""The registry of dataset mappers: from a data set's dict of an image to what a model takes."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

AUTO = "auto"
DEFAULT = "default"

Item = dict[str, Any]
Mapper = Callable[[Item], Item]
Mode = Literal["train", "validation", "test"]


class Items(Protocol):
    """Detectron2's dicts by position: a list, or one that is shared between processes."""

    def __len__(self) -> int: ...
    def __getitem__(self, position: int, /) -> Item: ...


Builder = Callable[[CfgNode, Mode, Items], Mapper]

_BUILDERS: dict[str, Builder] = {}


def register_mapper(name: str) -> Callable[[Builder], Builder]:
    """Register a dataset mapper under the name that `DATALOADER.MAPPER` chooses it by.

    What is decorated is called as `builder(cfg, mode, items)` once per loader and returns a
    function from one of Detectron2's dicts (a copy of its own) to the dict that the model's
    `forward` takes. `mode` is "train" (random augmentation, annotations), "validation" (resized as
    for testing, annotations kept, nothing random, for the validation loss) or "test". `items` is
    the whole training set, for augmentations that combine images; it is empty in other modes. The
    mapper has to be picklable, and draws from Python's, NumPy's and torch's global generators,
    which are seeded for each sample.

    A meta-architecture names the mapper that it needs in its attribute `dataset_mapper`.

    Raises:
        ValueError: the name is taken.
    """

    def register(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a dataset mapper is registered as {name!r} already")
        _BUILDERS[name] = builder
        return builder

    return register


def mapper_name(cfg: CfgNode) -> str:
    """Return the name of the mapper: `DATALOADER.MAPPER`, or the meta-architecture's if `auto`.

    Detectron2's own meta-architectures name none and get "default".
    """
    if cfg.DATALOADER.MAPPER != AUTO:
        return cfg.DATALOADER.MAPPER
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return getattr(architecture, "dataset_mapper", DEFAULT)


def build_mapper(cfg: CfgNode, mode: Mode, items: Items = ()) -> Mapper:
    """Build the dataset mapper that the config asks for.

    Args:
        cfg: reads DATALOADER.MAPPER and what the mapper itself reads.
        mode: what the samples are for, see `register_mapper`.
        items: the training set, for augmentations that combine images.
    Raises:
        ConfigError: the name is unknown, or an option of the mapper is out of range.
    """
    name = mapper_name(cfg)
    if name not in _BUILDERS:
        raise ConfigError(
            f"DATALOADER.MAPPER: {name!r} is unknown. Known: {', '.join(sorted(_BUILDERS))}. "
            "A mapper of a project is registered by its plugin: name the project under PLUGINS."
        )
    return _BUILDERS[name](cfg, mode, items)
