"""Dataset mappers; importing this registers the default one."""

from d2ext.data.mappers.default import TrainMapper
from d2ext.data.mappers.registry import build_mapper, mapper_name, register_mapper

__all__ = ["TrainMapper", "build_mapper", "mapper_name", "register_mapper"]
