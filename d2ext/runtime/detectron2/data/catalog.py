"""Catalogs of datasets by name: how to load them, and their metadata."""

import logging
import types
from collections import UserDict
from collections.abc import Callable
from typing import Any, ClassVar

from detectron2.utils.logger import log_first_n

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog"]


class _DatasetCatalog(UserDict):
    """A catalog from names to functions that load a dataset, the same one at every call."""

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Register `func` as the loader of dataset `name`; a name is registered once."""
        if not callable(func):
            raise AssertionError(f"{name}: register a function, not {type(func).__name__}.")
        if name in self:
            raise AssertionError(f"Dataset '{name}' is already registered!")
        self[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Load the dataset: usually a list of dicts in Detectron2's format."""
        if name not in self.data:
            known = ", ".join(self.data)
            raise KeyError(f"Dataset '{name}' is not registered! Available datasets are: {known}")
        return self.data[name]()

    def list(self) -> list[str]:
        """Return the registered names."""
        return [*self.data]

    def remove(self, name: str) -> None:
        """Unregister a dataset."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog(registered datasets: {', '.join(self.data)})"

    __repr__ = __str__


class Metadata(types.SimpleNamespace):
    """The metadata of a dataset as attributes; a value once set does not change."""

    name: str = "N/A"

    _RENAMED: ClassVar = {
        "class_names": "thing_classes",
        "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
        "stuff_class_names": "stuff_classes",
    }

    def __getattr__(self, key: str) -> Any:
        if key in self._RENAMED:
            new = self._RENAMED[key]
            log_first_n(
                logging.WARNING, f"Metadata '{key}' is now called '{new}'.", n=10, key="message"
            )
            return getattr(self, new)
        known = ", ".join(self.__dict__)
        raise AttributeError(
            f"Attribute '{key}' does not exist in the metadata of dataset '{self.name}'. "
            f"{'It has: ' + known if len(self.__dict__) > 1 else 'It is empty'}."
        )

    def __setattr__(self, key: str, value: Any) -> None:
        key = self._RENAMED.get(key, key)
        if key in self.__dict__ and self.__dict__[key] != value:
            raise AssertionError(
                f"Attribute '{key}' in the metadata of '{self.name}' cannot be set to a different "
                f"value!\n{self.__dict__[key]} != {value}"
            )
        super().__setattr__(key, value)

    def as_dict(self) -> dict[str, Any]:
        """Return a shallow copy of all attributes."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several attributes and return self."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return the attribute, or `default` if it is not set."""
        return getattr(self, key, default)


class _MetadataCatalog(UserDict):
    """A catalog from names to `Metadata`, created empty on first use."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """Return the metadata of a dataset, always the same object per name."""
        if not name:
            raise AssertionError("The name of a dataset must not be empty.")
        if name not in self.data:
            self.data[name] = Metadata(name=name)
        return self.data[name]

    def list(self) -> list[str]:
        """Return the names that have metadata."""
        return [*self.data]

    def remove(self, name: str) -> None:
        """Remove the metadata of a dataset."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog(registered metadata: {', '.join(self.data)})"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
