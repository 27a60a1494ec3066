"""Checkpoints as their authors published them, renamed to the parameters of d2ext.

Known are the layouts of DynamicHead (https://github.com/microsoft/DynamicHead), of FCOS in
AdelaiDet (https://github.com/aim-uofa/AdelaiDet) and of bare Swin backbones
(https://github.com/microsoft/Swin-Transformer).
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

# Buffers that a model computes itself, and the classifier of a bare backbone.
COMPUTED = re.compile(r"(.*\.)?(relative_position_index|attn_mask|pixel_mean|pixel_std)$")
SWIN_STEM = "patch_embed.proj.weight"
SWIN_CLASSIFIER = ("head.", "norm.")

DYHEAD = (
    (re.compile(r"\bdyhead_tower\.(\d+)\.offset\."), r"blocks.\1.spatial.offset."),
    (re.compile(r"\bdyhead_tower\.(\d+)\.DyConv\.0\."), r"blocks.\1.spatial.coarser."),
    (re.compile(r"\bdyhead_tower\.(\d+)\.DyConv\.1\."), r"blocks.\1.spatial.same."),
    (re.compile(r"\bdyhead_tower\.(\d+)\.DyConv\.2\."), r"blocks.\1.spatial.finer."),
    (re.compile(r"(\.spatial\.\w+)\.conv\."), r"\1."),
    (re.compile(r"(\.spatial\.\w+)\.bn\."), r"\1.norm."),
    (re.compile(r"\bdyhead_tower\.(\d+)\.AttnConv\.1\."), r"blocks.\1.scale.conv."),
    (re.compile(r"\bdyhead_tower\.(\d+)\.relu\.fc\.0\."), r"blocks.\1.task.fc1."),
    (re.compile(r"\bdyhead_tower\.(\d+)\.relu\.fc\.2\."), r"blocks.\1.task.fc2."),
    (re.compile(r"\bhead\.scales\.(\d+)\.scale$"), r"head.scales.\1"),
)

FCOS = (
    (re.compile(r"\bproposal_generator\.fcos_head\."), "head."),
    (re.compile(r"^head\.ctrness\."), "head.quality."),
    (re.compile(r"^head\.scales\.(\d+)\.scale$"), r"head.scales.\1"),
)


def convert_official(
    state_dict: Mapping[str, Tensor], names: Collection[str] = ()
) -> dict[str, Tensor]:
    """Rename the entries of a published checkpoint.

    Args:
        state_dict: of any layout; one that is not recognised comes back as it is.
        names: of the model's parameters; a bare backbone gets the prefix that it has among them.
    Returns:
        Entries by our names, without what models compute themselves.
    """
    if any("dyhead_tower." in name for name in state_dict):
        return {_apply(DYHEAD, name): value for name, value in _kept(state_dict).items()}
    if any("proposal_generator.fcos_head." in name for name in state_dict):
        return {_apply(FCOS, name): value for name, value in _kept(state_dict).items()}
    if SWIN_STEM in state_dict:
        prefix = _prefix(names)
        return {
            prefix + name: value
            for name, value in _kept(state_dict).items()
            if not name.startswith(SWIN_CLASSIFIER)
        }
    return dict(state_dict)


def _prefix(names: Collection[str]) -> str:
    """What stands before the stem of the one Swin among `names`."""
    found = [name for name in names if name.endswith(SWIN_STEM)]
    return found[0].removesuffix(SWIN_STEM) if len(found) == 1 else ""


def _kept(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state_dict.items() if not COMPUTED.fullmatch(name)}


def _apply(rules: tuple[tuple[re.Pattern[str], str], ...], name: str) -> str:
    for pattern, replacement in rules:
        name = pattern.sub(replacement, name)
    return name
