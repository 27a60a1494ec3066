"""A config that records which of its sections are read, so that a log leaves out the others."""

from typing import Any

from detectron2.config import CfgNode


class _Names(set[str]):
    """A set that copies of a config share."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Names":
        return self


class RecordingNode(CfgNode):
    """A copy of a config, or of a section, that records sections read as attributes or items."""

    @classmethod
    def of(cls, cfg: CfgNode) -> "RecordingNode":
        """Copy a config; nothing of it counts as read."""
        return cls._copy(cfg, "", _Names())

    @classmethod
    def _copy(cls, cfg: CfgNode, path: str, names: _Names) -> "RecordingNode":
        node = cls()
        for key, value in cfg.items():
            below = f"{path}.{key}" if path else key
            dict.__setitem__(
                node, key, cls._copy(value, below, names) if isinstance(value, CfgNode) else value
            )
        node.__dict__.update(cfg.__dict__)
        node.__dict__.update(_path=path, _names=names)
        return node

    def __getattr__(self, name: str) -> Any:
        return self._record(super().__getattr__(name))

    def __getitem__(self, key: str) -> Any:
        return self._record(super().__getitem__(key))

    def sections_read(self) -> frozenset[str]:
        """Return the sections that were read, such as "MODEL.FPN"."""
        return frozenset(self.__dict__["_names"])

    def _record(self, value: Any) -> Any:
        if isinstance(value, RecordingNode) and "_path" in value.__dict__:
            self.__dict__["_names"].add(value.__dict__["_path"])
        return value
