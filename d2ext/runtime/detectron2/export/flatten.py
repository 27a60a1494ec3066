"""Flattening of nested inputs and outputs to tuples of tensors for tracing, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, ROIMasks, RotatedBoxes
from detectron2.utils.registry import _convert_target_to_string, locate

from .torchscript_patch import patch_builtin_len

__all__ = ["TracingAdapter", "flatten_to_tuple"]

_WRAPPERS = (Boxes, RotatedBoxes, BitMasks, ROIMasks, Keypoints)


@dataclass
class Schema:
    """How an object was flattened; called with the values, it rebuilds the object."""

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, Schema]:
        """Return the values of `obj` and its schema."""
        raise NotImplementedError

    def __call__(self, values: Sequence[Any]) -> Any:
        raise NotImplementedError


@dataclass
class IdentitySchema(Schema):
    """Schema of an object that is one value."""

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, Schema]:
        return (obj,), cls()

    def __call__(self, values: Sequence[Any]) -> Any:
        return values[0]


@dataclass
class ListSchema(Schema):
    """Schema of a list; `sizes` are the numbers of values of its elements."""

    schemas: list[Schema]
    sizes: list[int]

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, Schema]:
        values, schemas, sizes = _flatten_all(obj)
        return values, cls(schemas, sizes)

    def __call__(self, values: Sequence[Any]) -> Any:
        return _rebuild_all(self, values)


@dataclass
class TupleSchema(ListSchema):
    """Schema of a tuple."""

    def __call__(self, values: Sequence[Any]) -> Any:
        return tuple(_rebuild_all(self, values))


@dataclass
class DictSchema(ListSchema):
    """Schema of a dict with names as keys, in the order of `keys`."""

    keys: list[str]

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, Schema]:
        if not all(isinstance(key, str) for key in obj):
            raise KeyError("Only dictionaries with str keys can be flattened.")
        keys = sorted(obj)
        values, schemas, sizes = _flatten_all([obj[key] for key in keys])
        return values, cls(schemas, sizes, keys)

    def __call__(self, values: Sequence[Any]) -> Any:
        return dict(zip(self.keys, _rebuild_all(self, values), strict=True))


@dataclass
class InstancesSchema(DictSchema):
    """Schema of `Instances`: the fields by name, then the image size."""

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, Schema]:
        fields = obj.get_fields()
        # Sorted, so that the order does not depend on which field was set first.
        keys = sorted(fields)
        size = obj.image_size
        if not isinstance(size, Tensor):
            size = torch.tensor(size)  # a constant in the graph: it is valid for this size
        values, schemas, sizes = _flatten_all([*(fields[key] for key in keys), size])
        return values, cls(schemas, sizes, keys)

    def __call__(self, values: Sequence[Any]) -> Any:
        *fields, image_size = _rebuild_all(self, values)
        return Instances(image_size, **dict(zip(self.keys, fields, strict=True)))


@dataclass
class TensorWrapSchema(Schema):
    """Schema of a class that wraps one tensor, e.g. `Boxes`."""

    class_name: str

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, Schema]:
        return (obj.tensor,), cls(_convert_target_to_string(type(obj)))

    def __call__(self, values: Sequence[Any]) -> Any:
        return locate(self.class_name)(values[0])


def _flatten_all(objects: Sequence[Any]) -> tuple[tuple, list[Schema], list[int]]:
    found = [flatten_to_tuple(obj) for obj in objects]
    values = tuple(value for values, _ in found for value in values)
    return values, [schema for _, schema in found], [len(values) for values, _ in found]


def _rebuild_all(schema: ListSchema, values: Sequence[Any]) -> list[Any]:
    if len(values) != sum(schema.sizes):
        raise ValueError(f"expected {sum(schema.sizes)} values, got {len(values)}")
    rest: Iterator[Any] = iter(values)
    return [
        part(tuple(next(rest) for _ in range(size)))
        for part, size in zip(schema.schemas, schema.sizes, strict=True)
    ]


def flatten_to_tuple(obj: Any) -> tuple[tuple, Schema]:
    """Flatten a nested object to its values and the schema that rebuilds it.

    Args:
        obj: nested lists, tuples, dicts, `Instances`, `Boxes` etc.; all else counts as a value.

    Returns:
        The values, and a dataclass with `schema(values) == obj` that can be stored.
    """
    kinds: list[tuple[Any, type[Schema]]] = [
        (list, ListSchema),
        (tuple, TupleSchema),
        (dict, DictSchema),
        (Instances, InstancesSchema),
        (_WRAPPERS, TensorWrapSchema),
    ]
    for kind, schema in kinds:
        if isinstance(obj, kind):
            return schema.flatten(obj)
    return IdentitySchema.flatten(obj)


class TracingAdapter(nn.Module):
    """A model with tuples of tensors as inputs and outputs, so that it can be traced or exported.

    `torch.jit.trace(adapter, adapter.flattened_inputs)` traces it; `adapter.outputs_schema(...)`
    rebuilds the model's outputs from those of the traced model.

    Args:
        model: the model, called by `inference_func`.
        inputs: an argument of the model, or a tuple of several, made of tensors only.
        inference_func: takes the model and its inputs; by default it calls the model.
        allow_non_tensor: omit inputs and outputs that are not tensors instead of raising
            ValueError; there are no schemas then.
    """

    flattened_inputs: tuple[Tensor, ...]
    inputs_schema: Schema | None
    outputs_schema: Schema | None

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        inference_func: Callable | None = None,
        allow_non_tensor: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        self.model = model
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self.allow_non_tensor = allow_non_tensor
        self.inference_func = inference_func or (lambda model, *inputs: model(*inputs))
        self.outputs_schema = None
        values, schema = flatten_to_tuple(self.inputs)
        self.flattened_inputs, kept = self._tensors(values, "Inputs for tracing")
        self.inputs_schema = schema if kept else None

    def _tensors(self, values: tuple, what: str) -> tuple[tuple[Tensor, ...], bool]:
        """Return the tensors of `values` and whether these are all."""
        tensors = tuple(value for value in values if isinstance(value, Tensor))
        complete = len(tensors) == len(values)
        if not complete and not self.allow_non_tensor:
            others = {type(value).__name__ for value in values if not isinstance(value, Tensor)}
            raise ValueError(f"{what} must only contain tensors, but there is {sorted(others)}.")
        return tensors, complete and not self.allow_non_tensor

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad(), _tracing_lengths():
            if self.inputs_schema is not None:
                inputs = self.inputs_schema(args)
            elif not torch.jit.is_tracing() and not _same(args, self.flattened_inputs):
                raise ValueError(
                    "TracingAdapter with allow_non_tensor=True cannot generalize to new inputs."
                )
            else:
                inputs = self.inputs
            values, schema = flatten_to_tuple(self.inference_func(self.model, *inputs))
        tensors, complete = self._tensors(values, "Model cannot be traced because some outputs")
        if not complete:
            return tensors
        if self.outputs_schema is None:
            self.outputs_schema = schema
        elif self.outputs_schema != schema:
            raise ValueError("Model should always return outputs with the same structure.")
        return tensors

    def _create_wrapper(self, traced_model: Callable) -> Callable:
        """Wrap the traced model as a function from the model's inputs to its outputs."""

        def forward(*args: Any) -> Any:
            outputs = traced_model(*flatten_to_tuple(args)[0])
            if self.outputs_schema is None:
                raise ValueError("There is no schema of the outputs: trace the adapter first.")
            return self.outputs_schema(outputs)

        return forward


def _same(args: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(args) == len(others) and all(a is b for a, b in zip(args, others, strict=True))


def _tracing_lengths() -> contextlib.AbstractContextManager:
    """Keep input-dependent lengths in the graph while it is traced."""
    return patch_builtin_len() if torch.jit.is_tracing() else contextlib.nullcontext()
