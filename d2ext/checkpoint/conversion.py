"""Checkpoints as their authors published them, renamed to the parameters of d2ext."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from d2ext.checkpoint.key_matching import Match, match
from d2ext.checkpoint.layouts import Layout, Weights, registered_layouts
from d2ext.checkpoint.layouts.swin import BIASES, fit_biases

# What models compute themselves; one that keeps some of it in its state gets it nevertheless.
_COMPUTED = re.compile(
    r"(.*\.)?(relative_position_index|attn_mask|num_batches_tracked|pixel_mean|pixel_std"
    r"|cell_anchors\.\d+)"
)

# Of d2ext's own detectors, or unknown.
UNCHANGED = Layout(name="d2ext", recognise=lambda weights: True)
# Of any backbone, e.g. timm's: recognised by the model, which has most of the file's names.
BACKBONE = Layout(name="of the backbone itself", recognise=lambda weights: True, bare=True)


@dataclass
class Conversion:
    """The tensors of a file by our names.

    Args:
        layout: what the file was recognised as; `UNCHANGED` where it was not.
        weights: tensors by our names.
        unused: the file's names of what models have no use for.
        unplaced: the file's names of what this model has no place for.
        resized: our names of what was interpolated for windows of another size.
        selected: our names of tensors of which only the rows of the model's classes are used.
    """

    layout: Layout
    weights: dict[str, Tensor] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """The file's names alone say which layout it has."""
        return self.layout in registered_layouts()

    def match(self, model: Weights) -> Match:
        """How the converted tensors correspond to those of `model`."""
        found = match(self.weights, model)
        found.layout, found.expects = self.layout.name, self.layout.expects
        found.unexpected += self.unplaced
        found.unused += self.unused
        found.resized += self.resized
        found.selected += self.selected
        return found


def convert_official(weights: Weights, model: Weights | None = None) -> dict[str, Tensor]:
    """Rename the tensors of a published checkpoint.

    Args:
        weights: of any layout; those of an unknown one keep their names.
        model: the state that they are for: a bare backbone gets the prefix that it has there.
    Returns:
        The same tensors by our names, without those that models compute themselves.
    """
    return convert(weights, model).weights


def convert(weights: Weights, model: Weights | None = None) -> Conversion:
    """As `convert_official`; tells what the file was recognised as and what has no place.

    A file that could be of several layouts is of the one that gives `model` the most.
    """
    candidates = [layout for layout in registered_layouts() if layout.recognise(weights)]
    if model is None:
        return _converted(weights, candidates[0] if candidates else UNCHANGED, None)
    found = [_converted(weights, layout, model) for layout in [*candidates, UNCHANGED, BACKBONE]]
    used = [len(conversion.match(model).matched) for conversion in found]
    if used[-1] <= len(weights) / 2:  # a few fit anywhere
        del found[-1], used[-1]
    return found[used.index(max(used))]


def _converted(weights: Weights, layout: Layout, model: Weights | None) -> Conversion:
    theirs = {layout.rename(name): name for name in weights if not layout.leaves_out(name)}
    tensors = {ours: weights[name] for ours, name in theirs.items()} | layout.computed(weights)
    places = {ours: ours for ours in tensors}
    if layout.bare and model is not None:
        places = _places(tensors, model)
    result = Conversion(layout, unused=[name for name in weights if layout.leaves_out(name)])
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
    """Where `model` has a bare backbone: its names there, for those that it has.

    The backbone is behind the prefix that finds the most tensors of its shapes.
    """
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
    """A name without the difference of "layers.0", a file's, and "layers_0", a timm backbone's."""
    return name.replace("_", ".")


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every prefix of `name` up to a dot, from none on, and the rest."""
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]
