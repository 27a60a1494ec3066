"""The instances of one image."""

import itertools
from collections.abc import Sequence
from typing import Any, NoReturn

import torch


class Instances:
    """Fields of equal length, one entry per instance: `gt_boxes`, `scores`, and any others.

    A field is set and read as an attribute; names with a leading underscore are not fields.
    Indexing, e.g. `instances[instances.scores > 0.5]`, indexes every field.

    Args:
        image_size: height and width of the image.
        **kwargs: fields.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling look attributes up before `_fields` exists.
        if name == "_fields" or name not in self._fields:
            raise AttributeError(f"Cannot find field '{name}' in the given Instances!")
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Return all fields by name; changing this dict changes the object."""
        return self._fields

    def has(self, name: str) -> bool:
        """Return whether there is a field `name`."""
        return name in self._fields

    def set(self, name: str, value: Any) -> None:
        """Set the field `name`.

        Raises:
            ValueError: its length differs from that of the other fields.
        """
        # While tracing, lengths are tensors: comparing them would end up in the graph.
        if self._fields and not torch.jit.is_tracing() and len(value) != len(self):
            raise ValueError(
                f"Field '{name}' of length {len(value)} for Instances of length {len(self)}."
            )
        self._fields[name] = value

    def remove(self, name: str) -> None:
        """Remove the field `name`."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """Return the field `name`."""
        return self._fields[name]

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Return a new object with `field.to(...)` of the fields that support it."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: Any) -> "Instances":
        """Return the instances at an index, a slice, or a vector of indices or bools.

        Raises:
            IndexError: the index is out of range.
        """
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"Instances index {item} out of range: there are {len(self)}.")
            item = slice(item, None, len(self))  # one entry, but every field keeps its dimension
        chosen = Instances(self._image_size)
        for name, value in self._fields.items():
            chosen.set(name, _index(value, item))
        return chosen

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without fields have no length.")

    def __iter__(self) -> NoReturn:
        raise NotImplementedError("Instances cannot be iterated over.")

    @staticmethod
    def cat(instance_lists: Sequence["Instances"]) -> "Instances":
        """Concatenate a list of instances of one image, which have the same fields.

        Raises:
            ValueError: the list is empty, the image sizes differ, or a field is not a tensor, a
                list or a class with `cat`.
        """
        if len(instance_lists) == 0:
            raise ValueError("Instances.cat of an empty list.")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        if not torch.jit.is_tracing() and any(
            tuple(other.image_size) != tuple(first.image_size) for other in instance_lists
        ):
            sizes = ", ".join(str(other.image_size) for other in instance_lists)
            raise ValueError(f"Instances.cat of several image sizes: {sizes}.")
        joined = Instances(first.image_size)
        for name in first.get_fields():
            joined.set(name, _concatenate([other.get(name) for other in instance_lists]))
        return joined

    def __str__(self) -> str:
        count = len(self) if self._fields else 0
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"Instances(num_instances={count}, image_height={height}, image_width={width}, "
            f"fields=[{fields}])"
        )

    __repr__ = __str__


def _index(value: Any, item: Any) -> Any:
    if not isinstance(value, list) or isinstance(item, slice):
        return value[item]
    chosen = torch.as_tensor(item)
    # Lists do not support tensors as indices.
    positions = chosen.nonzero().flatten() if chosen.dtype == torch.bool else chosen
    return [value[position] for position in positions.tolist()]


def _concatenate(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values)
    if isinstance(first, list):
        return list(itertools.chain(*values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise ValueError(f"Cannot concatenate fields of type {type(first)}.")
