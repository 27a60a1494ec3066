"""Conversion of published checkpoints to the parameter names of d2ext."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from d2ext.checkpoint.key_matching import Match, match
from d2ext.checkpoint.layouts import Layout, Weights, registered_layouts
from d2ext.checkpoint.layouts.swin import BIASES, fit_biases

# Buffers that models compute. They are dropped unless the state of the model has them.
_COMPUTED = re.compile(
    r"(.*\.)?(relative_position_index|attn_mask|num_batches_tracked|pixel_mean|pixel_std"
    r"|cell_anchors\.\d+)"
)

# The layout of d2ext's own files, and of unknown ones.
UNCHANGED = Layout(name="d2ext", recognise=lambda weights: True)
# The layout of a file with a backbone's own names, e.g. timm's: recognised by the model.
BACKBONE = Layout(name="of the backbone itself", recognise=lambda weights: True, bare=True)


@dataclass
class Conversion:
    """The result of a conversion.

    Args:
        layout: the layout of the file; `UNCHANGED` if none was recognised.
        weights: tensors by our names.
        unused: the file's names of tensors that no model of ours needs.
        unplaced: the file's names of tensors that this model lacks.
        resized: our names of tensors that were interpolated to another window size.
        selected: our names of tensors of which only the rows of the model's classes are used.
        in_file: the file's names of all tensors.
    """

    layout: Layout
    weights: dict[str, Tensor] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    in_file: list[str] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """True if the file's names alone identify its layout."""
        return self.layout in registered_layouts()

    def match(self, model: Weights) -> Match:
        """Match the converted tensors with those of `model`."""
        found = match(self.weights, model)
        found.layout, found.expects = self.layout.name, self.layout.expects
        found.architecture = self.layout.architecture
        found.unexpected += self.unplaced
        found.unused += self.unused
        found.resized += self.resized
        found.selected += self.selected
        found.in_file += self.in_file
        return found


def convert_official(weights: Weights, model: Weights | None = None) -> dict[str, Tensor]:
    """Rename the tensors of a published checkpoint.

    Args:
        weights: tensors in any layout; those in an unknown one keep their names.
        model: the state dict to load them into; a bare backbone gets its prefix from it.
    Returns:
        The same tensors by our names, without those that models compute themselves.
    """
    return convert(weights, model).weights


def convert(weights: Weights, model: Weights | None = None) -> Conversion:
    """Convert as `convert_official`; also return the layout and what was left out.

    Of several layouts that recognise the file, the one with most matches in `model` is used.
    """
    candidates = [layout for layout in registered_layouts() if layout.recognise(weights)]
    if model is None:
        return _converted(weights, candidates[0] if candidates else UNCHANGED, None)
    found = [_converted(weights, layout, model) for layout in [*candidates, UNCHANGED, BACKBONE]]
    used = [len(conversion.match(model).matched) for conversion in found]
    if used[-1] <= len(weights) / 2:  # a few names fit any model by accident
        del found[-1], used[-1]
    return found[used.index(max(used))]


def _converted(weights: Weights, layout: Layout, model: Weights | None) -> Conversion:
    theirs = {layout.rename(name): name for name in weights if not layout.leaves_out(name)}
    tensors = {ours: weights[name] for ours, name in theirs.items()} | layout.computed(weights)
    places = {ours: ours for ours in tensors}
    if layout.bare and model is not None:
        places = _places(tensors, model)
    unused = [name for name in weights if layout.leaves_out(name)]
    result = Conversion(layout, unused=unused, in_file=list(weights))
    for ours, tensor in tensors.items():
        place = places.get(ours)
        if _COMPUTED.fullmatch(ours) and place not in (model or {}):
            result.unused.append(theirs[ours])
        elif place is None:
            result.unplaced.append(theirs.get(ours, ours))
        elif model is not None and place.endswith(BIASES) and place in model:
            result.weights[place] = fit_biases(tensor, model[place].shape)
            result.resized += [place] if result.weights[place] is not tensor else []
        elif model is not None and place in model:
            result.weights[place] = layout.select_rows(place, tensor, model[place].shape)
            result.selected += [place] if result.weights[place] is not tensor else []
        else:
            result.weights[place] = tensor
    return result


def _places(weights: Weights, model: Weights) -> dict[str, str]:
    """Map backbone keys to their prefixed names in `model`; keys it lacks are omitted.

    The prefix is the one under which most tensors have the shapes of the file.
    """
    # By vote: a short name such as "bias" fits behind many prefixes by accident.
    spots = {_flat(name): name for name in model}
    flat = {_flat(name): name for name in weights}
    votes = Counter(
        prefix
        for spot, name in spots.items()
        for prefix, rest in _splits(spot)
        if rest in flat and weights[flat[rest]].shape == model[name].shape
    )
    if not votes:
        return {}
    prefix = votes.most_common(1)[0][0]
    return {name: spots[prefix + short] for short, name in flat.items() if prefix + short in spots}


def _flat(name: str) -> str:
    """Normalise a key: timm writes `layers_0` where checkpoints write `layers.0`."""
    return name.replace("_", ".")


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield every split of `name` into a prefix that ends with a dot, or "", and the rest."""
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]
