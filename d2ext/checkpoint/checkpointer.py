"""Detectron2's checkpointer, with atomic writes and errors that name file and remedy."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.checkpoint import file_io
from d2ext.checkpoint.conversion import convert
from d2ext.checkpoint.families import describe_family
from d2ext.checkpoint.key_matching import (
    Match,
    refuse_foreign,
    refuse_incomplete,
    refuse_other_architecture,
)
from d2ext.checkpoint.same_run import refuse_other_run
from d2ext.checkpoint.state_dict import extract_state_dict
from d2ext.checkpoint.uri import WeightsURI, local_file
from d2ext.errors import WeightsError
from detectron2.checkpoint import DetectionCheckpointer

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Saves and loads a model and the state of its training.

    Files hold "model", the state of every checkpointable and `metadata`, as plain tensors, numbers
    and text: `torch.load(..., weights_only=True)` reads them.

    Args:
        model: may be wrapped in DistributedDataParallel.
        save_dir: folder of the checkpoints.
        save_to_disk: write files; None for the main process only.
        keep: number of the newest resumable checkpoints to keep; 0 for all.
        metadata: written to every file; evaluation reads "thing_classes" and "config".
        checkpointables: objects with `state_dict` and `load_state_dict`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        keep: int = 0,
        metadata: dict[str, Any] | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.keep = keep
        self.metadata = metadata or {}
        self._saved: list[str] = []  # by this run: an earlier run's files are not ours to remove

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth as the checkpoint to resume from.

        Raises:
            OutputError: the disk is full or the folder cannot be written to.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        self._saved = [*(other for other in self._saved if other != name), name]
        old = self._saved[: -self.keep] if self.keep > 0 else []
        self._saved = self._saved[len(old) :]
        own = {"model": self.model.state_dict(), "checkpoints": self._saved}
        self._write(name, {**own, **states, **kwargs})
        # The tag moves and old files go only after the new file is complete: a run that is killed
        # here resumes from one of them.
        self.tag_last_checkpoint(f"{name}.pth")
        for other in old:
            Path(self.save_dir, f"{other}.pth").unlink(missing_ok=True)

    def save_weights(self, name: str, weights: dict[str, Tensor], **kwargs: Any) -> None:
        """Write `name`.pth with weights for evaluation, which training does not resume from.

        Raises:
            OutputError: the disk is full or the folder cannot be written to.
        """
        if self.save_dir and self.save_to_disk:
            self._write(name, {"model": weights, **kwargs})

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        file_io.write_text(Path(self.save_dir, file_io.LAST), last_filename_basename)

    def has_checkpoint(self) -> bool:
        return bool(file_io.resumable(self.save_dir))

    def get_checkpoint_file(self) -> str:
        return file_io.last_checkpoint(self.save_dir)

    def load(
        self, path: str, checkpointables: list[str] | None = None, *, strict: bool = False
    ) -> dict[str, Any]:
        """Load weights and, if the file has them, the states of `checkpointables`.

        Args:
            path: a path or URI that `d2ext.checkpoint.local_file` takes, of a file in any known
                layout; "" for none.
            checkpointables: names of those to restore; None for all.
            strict: raise if the file lacks a weight of the model, as evaluation needs it.
        Returns:
            The rest of the file's content.
        Raises:
            WeightsError: the file is missing, unreadable or of another model.
        """
        if not path:
            logger.info(
                "no weights to load (MODEL.WEIGHTS): the model starts from its initial ones"
            )
            return {}
        content = file_io.read_checkpoint(local_file(path))
        if WeightsURI.parse(path).heuristics:
            content["matching_heuristics"] = True
        return self._restore(path, content, checkpointables, strict)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint of the folder if `resume` is set and there is one, else `path`.

        A truncated or damaged checkpoint is skipped with a warning, for the one before.

        Raises:
            WeightsError: as `load`; or all checkpoints of the folder are unreadable, or the newest
                is of another run or names files of other folders.
        """
        if not resume or not self.has_checkpoint():
            return self.load(path, checkpointables=[])
        path, content = self._newest_readable()
        refuse_other_run(path, content, self.metadata, self.checkpointables)
        self._saved = _saved_names(path, content.pop("checkpoints", []))
        return self._restore(path, content, None, strict=True)

    def _newest_readable(self) -> tuple[str, dict[str, Any]]:
        candidates = file_io.resumable(self.save_dir)
        for path in candidates:
            try:
                return str(path), file_io.read_checkpoint(path)
            except WeightsError as error:
                logger.warning("skipped for the checkpoint before: %s", error)
        raise WeightsError(
            f"{self.save_dir}: none of its {len(candidates)} checkpoints can be read; "
            "start again without --resume."
        )

    def _restore(
        self, path: str, content: dict[str, Any], checkpointables: list[str] | None, strict: bool
    ) -> dict[str, Any]:
        found = self._load_weights(content)
        refuse_other_architecture(path, found, self.model)
        config = str(content.get("config", ""))
        refuse_foreign(path, found, config)
        if strict:
            refuse_incomplete(path, found, config)
        if found.complete:
            logger.info("%s: %s", path, found.summary())
        else:
            family = describe_family(found.names(), self.model.state_dict())
            logger.warning("%s: %s", path, f"{family} {found.summary()}".lstrip())
        wanted = self.checkpointables if checkpointables is None else checkpointables
        for key in wanted:
            if key in content:
                self.checkpointables[key].load_state_dict(content.pop(key))
        return content

    def _load_weights(self, content: dict[str, Any]) -> Match:
        """Copy matching weights to the model; remove the weights from `content`."""
        heuristics = content.pop("matching_heuristics", False)
        weights, state = extract_state_dict(content), self.model.state_dict()
        conversion = convert(weights, state)
        if heuristics and not conversion.known:
            return self._load_by_heuristics(weights)
        found = conversion.match(state)
        # Copied one by one: load_state_dict would refuse tensors of other shapes.
        with torch.no_grad():
            for name in found.matched:
                state[name].copy_(conversion.weights[name])
        return found

    def _load_by_heuristics(self, weights: dict[str, Tensor]) -> Match:
        """Load with Detectron2's heuristics, which match names by their ends."""
        incompatible = self._load_model({"model": dict(weights), "matching_heuristics": True})
        odd = [(name, tuple(a), tuple(b)) for name, a, b in incompatible.incorrect_shapes]
        unmatched = len(incompatible.unexpected_keys) + len(odd)
        matched = list(weights)[: max(0, len(weights) - unmatched)]
        return Match(matched, incompatible.missing_keys, incompatible.unexpected_keys, odd)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = Path(self.save_dir, f"{name}.pth")
        for leftover in path.parent.glob(".model_*.pth"):  # a process was killed while it saved
            leftover.unlink(missing_ok=True)
        file_io.write_checkpoint(path, {**self.metadata, **content})
        logger.info("saved %s", path)


def _saved_names(path: str, names: object) -> list[str]:
    """Check the names of checkpoints that `path` lists: the old ones of them will be removed."""
    listed = names if isinstance(names, list) else [names]
    return [file_io.check_file_name(name, Path(path)) for name in listed]


def load_for_evaluation(model: nn.Module, path: str | os.PathLike) -> dict[str, Any]:
    """Load all weights of `model` from `path` and return the file's metadata.

    Raises:
        WeightsError: the file is missing, unreadable, of another model or incomplete.
    """
    if not path:
        raise WeightsError("MODEL.WEIGHTS is empty: name the weights, e.g. output/model_final.pth.")
    content = Checkpointer(model).load(str(path), checkpointables=[], strict=True)
    return file_io.checked_metadata(path, content)
