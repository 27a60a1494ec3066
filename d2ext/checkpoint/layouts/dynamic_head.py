"""The layout of DynamicHead's detectors, with or without a dynamic head.

Source: https://github.com/microsoft/DynamicHead
"""

from d2ext.checkpoint.layouts.layout import Layout, has

DYNAMIC_HEAD = Layout(
    name="DynamicHead",
    recognise=lambda weights: (
        has(weights, r"(.*\.)?dyhead_tower\..*") or has(weights, r"head\.scales\.0\.scale")
    ),
    renamings=(
        (r"\bdyhead_tower\.(\d+)\.offset\.", r"blocks.\1.spatial.offset."),
        (r"\bdyhead_tower\.(\d+)\.DyConv\.0\.", r"blocks.\1.spatial.coarser."),
        (r"\bdyhead_tower\.(\d+)\.DyConv\.1\.", r"blocks.\1.spatial.same."),
        (r"\bdyhead_tower\.(\d+)\.DyConv\.2\.", r"blocks.\1.spatial.finer."),
        (r"(\.spatial\.\w+)\.conv\.", r"\1."),
        (r"(\.spatial\.\w+)\.bn\.", r"\1.norm."),
        (r"\bdyhead_tower\.(\d+)\.AttnConv\.1\.", r"blocks.\1.scale.conv."),
        (r"\bdyhead_tower\.(\d+)\.relu\.fc\.0\.", r"blocks.\1.task.fc1."),
        (r"\bdyhead_tower\.(\d+)\.relu\.fc\.2\.", r"blocks.\1.task.fc2."),
        (r"\bhead\.scales\.(\d+)\.scale$", r"head.scales.\1"),
    ),
)
