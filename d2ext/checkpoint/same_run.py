"""Check that a checkpoint is one of the run that resumes it."""

from collections.abc import Mapping, Sequence
from typing import Any

from d2ext.errors import WeightsError
from d2ext.text import first_few


def refuse_other_run(
    path: str,
    content: Mapping[str, Any],
    metadata: Mapping[str, Any],
    checkpointables: Mapping[str, Any],
) -> None:
    """Refuse to resume from a checkpoint of another run.

    Args:
        path: of the checkpoint, for the message.
        content: what the checkpoint holds.
        metadata: of this run; "thing_classes" must be those of the checkpoint.
        checkpointables: by name; each needs a state in `content`. If it has a method
            `state_differences(state)`, that lists in words why it cannot load a state.
    Raises:
        WeightsError: they differ; the message lists all differences.
    """
    differences = _class_differences(content.get("thing_classes"), metadata.get("thing_classes"))
    for name, item in checkpointables.items():
        differences += _state_differences(name, item, content.get(name))
    if differences:
        raise WeightsError(
            f"{path}: not a checkpoint of this run: {'; '.join(differences)}. Resume with the "
            "config and data of that run, or train into another OUTPUT_DIR."
        )


def _class_differences(saved: Sequence[str] | None, own: Sequence[str] | None) -> list[str]:
    if saved is None or own is None or list(saved) == list(own):
        return []
    return [f"its classes are {first_few(saved)}, those of the data are {first_few(own)}"]


def _state_differences(name: str, item: Any, state: Any) -> list[str]:
    if state is None:
        return [f"it has no state of the {name}"]
    if not isinstance(state, dict):
        return [f"its state of the {name} is a {type(state).__name__}"]
    if not hasattr(item, "state_differences"):
        return []
    try:
        return item.state_differences(state)
    except (KeyError, TypeError, AttributeError) as error:
        return [f"its state of the {name} is incomplete ({error!r})"]
