"""The layout of AdelaiDet's FCOS.

Source: https://github.com/aim-uofa/AdelaiDet
"""

from d2ext.checkpoint.layouts.layout import Layout, has

ADELAIDET_FCOS = Layout(
    name="AdelaiDet FCOS",
    recognise=lambda weights: has(weights, r"proposal_generator\.fcos_head\..*"),
    renamings=(
        (r"^proposal_generator\.fcos_head\.", "head."),
        (r"^head\.ctrness\.", "head.quality."),
        (r"^head\.scales\.(\d+)\.scale$", r"head.scales.\1"),
    ),
)
