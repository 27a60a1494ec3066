"""Checkpoints of detectors, and pretrained weights in the formats of several model zoos."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from .arrays import load_arrays
from .c2_model_loading import align_and_update_state_dicts

_MATCH_QUERY = "?matching_heuristics=True"


class DetectionCheckpointer(Checkpointer):
    """Checkpointer of a model and its training state; also loads weights of several model zoos.

    Nothing in a file is executed: .pth files hold tensors and plain values, .pkl files NumPy arrays
    and plain values.

    Args:
        model: the model; a `DistributedDataParallel` wrapper is removed.
        save_dir: folder of the checkpoints.
        save_to_disk: by default in the main process only.
        **checkpointables: further objects to save and load by name, e.g. the optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        save = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=save, **checkpointables)
        self.path_manager = PathManager
        self._match_names = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a file or URL and return its entries that belong to no checkpointable.

        Args:
            path: if it ends in "?matching_heuristics=True", weights are matched to the model's
                parameters by the ends of their names. "" loads nothing.
            *args: the names of the checkpointables to load; all by default.
            **kwargs: the same by name.

        Raises:
            ValueError: the file holds anything but weights, or no weights.
        """
        path = os.fspath(path)
        self._match_names = path.endswith(_MATCH_QUERY)
        return super().load(path.removesuffix(_MATCH_QUERY), *args, **kwargs)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save everything to `name`.pth and record it as the last checkpoint.

        The file is replaced only once the new one is complete.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        filename = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", filename)
        with _replacing(filename) as temporary:
            torch.save({"model": self.model.state_dict(), **states, **kwargs}, temporary)
        self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record which file is the last checkpoint."""
        with _replacing(os.path.join(self.save_dir, "last_checkpoint")) as temporary:
            Path(temporary).write_text(last_filename_basename, encoding="utf-8")

    def _load_file(self, f: str) -> dict[str, Any]:
        try:
            loaded = _load_pickle(f) if f.endswith(".pkl") else self._load_pth(f)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{f} cannot be read as weights: {error}\nOf a file that you trust, save the "
                "weights alone: torch.save(model.state_dict(), 'weights.pth')."
            ) from error
        if self._match_names:
            loaded["matching_heuristics"] = True
        return loaded

    def _load_pth(self, filename: str) -> dict[str, Any]:
        loaded = self._torch_load(filename)
        if filename.endswith(".pyth") and "model_state" in loaded:
            weights = loaded["model_state"]
            return {"model": weights, "__author__": "pycls", "matching_heuristics": True}
        return loaded if "model" in loaded else {"model": loaded}

    def _torch_load(self, f: str) -> dict[str, Any]:
        # On the CPU, since the file may come from a GPU that this machine does not have.
        return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = align_and_update_state_dicts(
                self.model.state_dict(),
                checkpoint["model"],
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        incompatible = super()._load_model(checkpoint)
        # Derived from the config; older checkpoints hold them, newer ones do not.
        buffers = dict(self.model.named_buffers(recurse=False))
        own = {name for name in ("pixel_mean", "pixel_std") if name in buffers}
        missing, unexpected = incompatible.missing_keys, incompatible.unexpected_keys
        missing[:] = [key for key in missing if key not in own]
        unexpected[:] = [key for key in unexpected if "anchor_generator.cell_anchors" not in key]
        return incompatible


def _load_pickle(filename: str) -> dict[str, Any]:
    with PathManager.open(filename, "rb") as file:
        data = load_arrays(file)
    if "model" in data and "__author__" in data:
        return data
    # Files of Caffe2 hold only weights, under Caffe2's names.
    weights = {k: v for k, v in data.get("blobs", data).items() if not k.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


@contextmanager
def _replacing(filename: str) -> Iterator[str]:
    """Yield a temporary name to write to, which is renamed to `filename` on success."""
    # In the same folder: renaming is atomic only within a file system.
    temporary = f"{filename}.{os.getpid()}.tmp"
    try:
        yield temporary
        os.replace(temporary, filename)
    finally:
        Path(temporary).unlink(missing_ok=True)
