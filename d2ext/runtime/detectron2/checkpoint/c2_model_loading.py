"""Matching of checkpoint keys to the parameter names of a model."""

import logging
import os
import re
from collections.abc import Iterable

from torch import Tensor

# Patterns of Caffe2's names and their replacements. The order matters.
_RENAMINGS = [
    (r"^pred(?=_)", "linear"),
    (r"^(res_)?conv1(?=_(w|b|bn|gn)(_|$))", "stem.conv1"),
    (r"^res(\d+)_(\d+)_", r"res\1.\2."),
    (r"branch1(?=_)", "shortcut"),
    (r"branch2a(?=_)", "conv1"),
    (r"branch2b(?=_)", "conv2"),
    (r"branch2c(?=_)", "conv3"),
    (r"_(bn|gn)_(s|gamma)$", ".norm.weight"),
    (r"_(bn|gn)_(b|beta)$", ".norm.bias"),
    (r"_bn_rm$", ".norm.running_mean"),
    (r"_bn_riv$", ".norm.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
]


def convert_basic_c2_names(original_keys: Iterable[str]) -> list[str]:
    """Convert the parameter names of a Caffe2 backbone, e.g. MSRA's R-50, to Detectron2's.

    "res2_0_branch2a_bn_s" is "res2.0.conv1.norm.weight"; unknown names are returned as they are.
    """
    keys = []
    for key in original_keys:
        for pattern, replacement in _RENAMINGS:
            key = re.sub(pattern, replacement, key)
        keys.append(key)
    return keys


def align_and_update_state_dicts(
    model_state_dict: dict[str, Tensor],
    ckpt_state_dict: dict[str, Tensor],
    c2_conversion: bool = True,
) -> dict[str, Tensor]:
    """Rename the weights of a checkpoint to the parameter names of a model.

    A weight belongs to the parameter whose name it is or, after a dot, ends: "res2.conv1.weight"
    to "backbone.res2.conv1.weight". The longest of several names wins. A weight that belongs
    nowhere, or is of another shape, keeps its name.

    Args:
        model_state_dict: parameters of the model.
        ckpt_state_dict: weights, by names without what the model puts before them.
        c2_conversion: the names are Caffe2's.

    Raises:
        ValueError: a weight belongs to several parameters.
    """
    names = list(ckpt_state_dict)
    renamed = convert_basic_c2_names(names) if c2_conversion else names
    weights = dict(zip(renamed, ckpt_state_dict.values(), strict=True))
    targets = _targets(model_state_dict, weights)
    logging.getLogger(__name__).info(
        "%d of %d weights match parameters by name, under '%s'.",
        *(len(targets), len(weights), _longest_common_prefix_str(list(targets.values()))),
    )
    return {targets.get(name, name): weight for name, weight in weights.items()}


def _targets(parameters: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, str]:
    targets: dict[str, str] = {}
    for parameter, value in parameters.items():
        name = _longest_suffix(parameter, weights)
        if name is None:
            continue
        if value.shape != weights[name].shape:
            logging.getLogger(__name__).warning(
                "%s is %s in the checkpoint, but %s is %s in the model: not loaded.",
                *(name, tuple(weights[name].shape), parameter, tuple(value.shape)),
            )
            continue
        if name in targets:
            raise ValueError(
                f"'{name}' of the checkpoint fits several parameters of the model: "
                f"'{targets[name]}' and '{parameter}'."
            )
        targets[name] = parameter
    return targets


def _longest_suffix(parameter: str, weights: dict[str, Tensor]) -> str | None:
    """Return the longest weight name that is `parameter` or a dotted suffix of it."""
    parts = parameter.split(".")
    suffixes = (".".join(parts[start:]) for start in range(len(parts)))
    return next((suffix for suffix in suffixes if suffix in weights), None)


def _longest_common_prefix_str(names: list[str]) -> str:
    """Return the longest common prefix by characters: it may end within a part of a name."""
    return os.path.commonprefix(names)  # noqa: RUF071  (letters are meant)
