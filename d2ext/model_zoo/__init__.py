"""Published weights by name: where they are, what they are for, and under which licence."""

from d2ext.model_zoo.entry import ModelEntry, PixelFormat
from d2ext.model_zoo.registry import (
    all_models,
    find_model,
    model_named,
    model_of_url,
    register_model,
    similar_names,
)

__all__ = [
    "ModelEntry",
    "PixelFormat",
    "all_models",
    "find_model",
    "model_named",
    "model_of_url",
    "register_model",
    "similar_names",
]
