"""Dataset mappers; importing this registers the default one."""

from d2ext.data.mappers.default import build_default_mapper
from d2ext.data.mappers.registry import (
    Items,
    Mapper,
    Mode,
    build_mapper,
    mapper_name,
    register_mapper,
)
from d2ext.data.mappers.train import TrainMapper

__all__ = [
    "Items",
    "Mapper",
    "Mode",
    "TrainMapper",
    "build_default_mapper",
    "build_mapper",
    "mapper_name",
    "register_mapper",
]
