"""The names in a published checkpoint of DotNet, a code base that exists in this example alone."""

from d2ext.checkpoint.layouts import Layout, register_layout
from d2ext.checkpoint.layouts.layout import Weights, has


def _recognise(weights: Weights) -> bool:
    return has(weights, r"net\.conv\d+\.weight", r"heat\.weight", r"box\.weight")


DOTNET = register_layout(
    Layout(
        name="DotNet",
        recognise=_recognise,
        renamings=(
            (r"^net\.conv(\d+)\.", r"backbone.layers.\1.0."),
            (r"^heat\.", "head.cls_logits."),
            (r"^box\.", "head.bbox_pred."),
        ),
    )
)
