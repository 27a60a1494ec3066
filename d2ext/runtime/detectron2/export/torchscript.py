"""Looking into TorchScript models. Scripting is left out: PyTorch has deprecated it."""

import os
from typing import Any, NoReturn

import torch

from detectron2.utils.file_io import PathManager

__all__ = ["dump_torchscript_IR", "patch_instances", "scripting_with_instances"]


def dump_torchscript_IR(model: Any, dir: str) -> None:
    """Write what a traced or scripted model or function looks like, as text files.

    Args:
        model: a traced or scripted module or function.
        dir: folder for "model_ts_code.txt", "model_ts_IR.txt", "model_ts_IR_inlined.txt" and, for a
            module, "model.txt".
    """
    PathManager.mkdirs(dir)
    graph = model.forward.graph if isinstance(model, torch.jit.TracedModule) else model.graph
    inlined = graph.copy()
    torch._C._jit_pass_inline(inlined)
    texts = {"model_ts_code": model.code, "model_ts_IR": graph, "model_ts_IR_inlined": inlined}
    if isinstance(model, torch.nn.Module):
        texts["model"] = model
    for name, text in texts.items():
        with PathManager.open(os.path.join(dir, f"{name}.txt"), "w") as file:
            file.write(str(text))


def scripting_with_instances(model: Any, fields: dict[str, type]) -> NoReturn:
    """Not supported: trace the model, see `TracingAdapter`."""
    raise NotImplementedError(
        "torch.jit.script of models is not supported, and deprecated by PyTorch. Trace the model "
        "with detectron2.export.TracingAdapter."
    )


def patch_instances(fields: dict[str, type]) -> NoReturn:
    """Not supported, see `scripting_with_instances`."""
    scripting_with_instances(None, fields)
