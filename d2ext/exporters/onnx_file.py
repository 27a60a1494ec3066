"""Writing a `torch.export` program as an ONNX file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from onnxscript import opset19

OPSET = 19  # the first with DeformConv

op: Any = opset19  # its annotations do not know that Python's numbers and lists are taken


def save_onnx(
    program: torch.export.ExportedProgram,
    names: Sequence[str],
    properties: dict[str, str],
    path: Path,
    inputs: Sequence[str] = ("images",),
) -> None:
    """Write a program of `export_program`, its outputs called `names`, with metadata."""
    exported = torch.onnx.export(
        program,
        input_names=list(inputs),
        output_names=list(names),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        custom_translation_table={
            torch.ops.d2ext_export.batched_nms_mask.default: _batched_nms_mask,
            torch.ops.torchvision.deform_conv2d.default: _deform_conv2d,
        },
    )
    assert exported is not None
    exported.model.metadata_props.update(properties)
    exported.save(str(path))


def _batched_nms_mask(
    boxes: Any, scores: Any, classes: Any, num_classes: int, nms_thresh: float
) -> Any:
    """Translate `d2ext.exporters.selection.batched_nms_mask`."""
    numbers = op.Constant(value_ints=list(range(num_classes)))
    own = op.Equal(op.Unsqueeze(classes, [1]), op.Unsqueeze(numbers, [0, 2]))  # (B, classes, K)
    by_class = op.Where(own, op.Unsqueeze(scores, [1]), 0.0)
    most = op.Constant(value_ints=[2**31 - 1])
    kept = op.NonMaxSuppression(boxes, by_class, most, [nms_thresh], [0.0])  # (N, 3)
    places = op.Gather(kept, [0, 2], axis=1)
    nothing = op.ConstantOfShape(op.Shape(scores))
    ones = op.Expand(1.0, op.Shape(kept, start=0, end=1))
    return op.Cast(op.ScatterND(nothing, places, ones), to=9)


def _deform_conv2d(
    input: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Any:
    return op.DeformConv(
        input,
        weight,
        offset,
        bias,
        mask if use_mask else None,
        strides=[stride_h, stride_w],
        pads=[pad_h, pad_w, pad_h, pad_w],
        dilations=[dilation_h, dilation_w],
        group=groups,
        offset_group=offset_groups,
    )
