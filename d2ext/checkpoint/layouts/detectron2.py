"""Detectron2's own layout, whose names are ours: its model zoo, and ResNets it converted.

Source: https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md
"""

from d2ext.checkpoint.layouts.layout import Layout, has

DETECTRON2 = Layout(
    name="Detectron2",
    recognise=lambda weights: has(
        weights, r"backbone\.(.*\.)?(bottom_up|stem\.conv1|fpn_lateral\d|fpn_output\d)\..*"
    ),
)

DETECTRON2_RESNET = Layout(
    name="Detectron2 ResNet",
    recognise=lambda weights: has(weights, r"stem\.conv1\.weight", r"res2\.0\.conv1\.weight"),
    unused=(r"(linear|fc|fc1000)\..*",),
    bare=True,
)
