"""Parameter groups: learning rate and weight decay per parameter, by rules of the config.

Source of layer-wise decay: Clark et al. 2020, arXiv:2003.10555; for vision transformers Bao et al.
2022, arXiv:2106.08254.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from d2ext.errors import ConfigError
from d2ext.text import did_you_mean
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import reduce_param_groups

KEY = "SOLVER.PARAM_GROUPS"

# Names of position embeddings and relative position biases in published models, which never decay.
POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")

# Names of a block in ViT, Swin, ResNet, RegNet, EfficientNet and their relatives, ours and timm's.
_BLOCK = re.compile(
    r"(?:^|\.)((?:layer|stage|res)s?[._]?\d+(?:\.blocks)?\.\d+|blocks\.\d+(?:\.\d+)?|s\d+\.b\d+)\."
)


@dataclass(frozen=True)
class ParamRule:
    """One entry of `SOLVER.PARAM_GROUPS`: settings of the parameters whose names match a pattern.

    A setting that is None is left as it was. See `build_param_groups` for the order.

    Args:
        pattern: glob on the full name, case-sensitive: "*" matches any characters, dots included.
        lr_factor: learning rate, in multiples of what the parameter has by Detectron2's keys.
        layer_decay: further factor per layer below the top of the backbone: the last block learns
            at layer_decay, the one before at layer_decay ** 2, the stem slowest. 1 has no effect.
        weight_decay: replaces the weight decay, also of norms and biases.
    """

    pattern: str
    lr_factor: float | None = None
    layer_decay: float | None = None
    weight_decay: float | None = None

    def lr_factors(self, names: Collection[str]) -> dict[str, float]:
        """Return the factor of the learning rate per name; {} if the rule sets none."""
        if self.lr_factor is None and self.layer_decay is None:
            return {}
        factor = 1.0 if self.lr_factor is None else self.lr_factor
        if self.layer_decay is None:
            return dict.fromkeys(names, factor)
        distances = layer_distances(names, self.pattern)
        return {name: factor * self.layer_decay ** distances[name] for name in names}


def read_rules(cfg: CfgNode) -> list[ParamRule]:
    """Parse `SOLVER.PARAM_GROUPS`.

    Raises:
        ConfigError: an entry is not a mapping, has an unknown or missing field, or a field that is
            not a number of at least 0.
    """
    return [_read_rule(entry) for entry in cfg.SOLVER.PARAM_GROUPS]


def build_param_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Build the parameter groups of an optimizer.

    First come Detectron2's own keys: WEIGHT_DECAY, WEIGHT_DECAY_NORM (norm layers by their type),
    WEIGHT_DECAY_BIAS and BIAS_LR_FACTOR; position tables do not decay. Then the rules of
    PARAM_GROUPS run in order: of several rules that match a parameter, the last one that sets the
    learning rate decides on it, and likewise the last one that sets the weight decay.

    Returns:
        One group per distinct setting; frozen parameters are in none.
    Raises:
        ConfigError: a rule is malformed or matches no trainable parameter.
    """
    settings = _detectron2_settings(cfg, model)
    # Factors of several rules must not multiply: each is relative to this rate.
    rates = {name: setting["lr"] for name, setting in settings.items()}
    for rule in read_rules(cfg):
        matched = [name for name in settings if fnmatchcase(name, rule.pattern)]
        if not matched:
            raise ConfigError(_no_match(rule.pattern, settings))
        for name, factor in rule.lr_factors(matched).items():
            settings[name]["lr"] = rates[name] * factor
        if rule.weight_decay is not None:
            for name in matched:
                settings[name]["weight_decay"] = rule.weight_decay
    return reduce_param_groups(list(settings.values()))


def layer_distances(names: Collection[str], pattern: str) -> dict[str, int]:
    """Count the layers between each parameter and the top of a backbone.

    Layers are numbered by definition: what precedes the first block (patch embedding, stem,
    position table) is layer 0, then each block is one layer. Parameters between blocks (Swin's
    patch merging) belong to the block before them. What follows the last block, and what is outside
    of the backbone's module, is at the top.

    Args:
        names: full names in the order of definition.
        pattern: of the rule, for messages.
    Returns:
        Name -> 0 at the top, 1 in the last block, number of blocks + 1 in the stem.
    Raises:
        ConfigError: no name has a block, or blocks of several modules match.
    """
    blocks = {name: found for name in names if (found := _BLOCK.search(name))}
    backbones = {name[: found.start(1)] for name, found in blocks.items()}
    if len(backbones) != 1:
        listed = ", ".join(sorted(backbones)) or "none"
        raise ConfigError(
            f"{KEY}: layer_decay needs a pattern that matches the blocks of one backbone; "
            f"{pattern!r} matches blocks of: {listed}."
        )
    (backbone,) = backbones
    order = list(dict.fromkeys(found[1] for found in blocks.values()))
    # Norms after the last block belong to no layer; a pyramid's laterals come before the blocks.
    last = max(i for i, name in enumerate(names) if name in blocks)
    distances, layer = {}, 0
    for i, name in enumerate(names):
        if name in blocks:
            layer = order.index(blocks[name][1]) + 1
        inside = i <= last and name.startswith(backbone)
        distances[name] = len(order) + 1 - layer if inside else 0
    return distances


def _detectron2_settings(cfg: CfgNode, model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return a group per trainable parameter, by its name and in the order of definition."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        overrides={name: {"weight_decay": 0.0} for name in POSITION_TABLES},
    )
    by_parameter = {p: {**group, "params": [p]} for group in groups for p in group["params"]}
    return {
        name: by_parameter[parameter]
        for name, parameter in model.named_parameters()
        if parameter in by_parameter
    }


def _read_rule(entry: Any) -> ParamRule:
    known = [field.name for field in fields(ParamRule)]
    if not isinstance(entry, Mapping) or not isinstance(entry.get("pattern"), str):
        raise ConfigError(
            f"{KEY}: {entry!r} is not a rule; write a mapping with a pattern, e.g. "
            "{pattern: 'backbone.*', lr_factor: 0.1}. Fields: " + ", ".join(known) + "."
        )
    for name, value in entry.items():
        if name not in known:
            hint = did_you_mean(str(name), known, cutoff=0.0)
            raise ConfigError(f"{KEY}: unknown field {name!r} in {entry!r}{hint}")
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if name != "pattern" and not number:
            raise ConfigError(f"{KEY}: {name} in {entry!r} must be a number of at least 0.")
    return ParamRule(**entry)


def _no_match(pattern: str, names: Collection[str]) -> str:
    """Return a message with the names of modules and parameters that resemble a pattern."""
    parts = [name.split(".") for name in names]
    paths = {".".join(p[:end]) for p in parts for end in range(1, len(p) + 1)}
    candidates = sorted(paths | {part for p in parts for part in p})
    near = difflib.get_close_matches(pattern.strip("*."), candidates, n=3, cutoff=0.0)
    return (
        f"{KEY}: the pattern {pattern!r} matches no trainable parameter of the model. Similar "
        f"names: {', '.join(near)}. A pattern is a glob on the whole name, e.g. '*.{near[0]}.*'."
    )
