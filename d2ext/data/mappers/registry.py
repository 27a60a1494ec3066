"""The registry of dataset mappers: from a data set's dict of an image to what a model takes."""

from collections.abc import Callable
from typing import Literal, Protocol

from d2ext.config.load import AUTO
from d2ext.data.formats.dataset_split import Item
from d2ext.registry import ExtensionRegistry
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

DEFAULT = "default"

Mapper = Callable[[Item], Item]
Mode = Literal["train", "validation", "test"]


class Items(Protocol):
    """Detectron2's dicts by position: a list, or one that is shared between processes."""

    def __len__(self) -> int: ...
    def __getitem__(self, position: int, /) -> Item: ...


Builder = Callable[[CfgNode, Mode, Items], Mapper]

_MAPPERS: ExtensionRegistry[str, Builder] = ExtensionRegistry("dataset mapper")


def register_mapper(name: str, builder: Builder) -> None:
    """Register a dataset mapper under the name that `DATALOADER.MAPPER` chooses it by.

    `builder(cfg, mode, items)` is called once per loader. It returns a function from one of
    Detectron2's dicts, which it must not change, to the dict that the model's `forward` takes.
    `mode` is "train" (random augmentation, annotations kept), "validation" (resized as for testing,
    annotations kept, nothing random: for the validation loss) or "test". `items` is the whole
    training set, for augmentations that combine images; it is empty in other modes. The function
    must be picklable. It draws from Python's, NumPy's and torch's global generators, which are
    seeded for each sample.

    A meta-architecture names the mapper that it needs in its attribute `dataset_mapper`.

    Raises:
        ValueError: the name is taken.
    """
    _MAPPERS.register(name, builder)


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
    return _MAPPERS.get(mapper_name(cfg), "DATALOADER.MAPPER")(cfg, mode, items)
