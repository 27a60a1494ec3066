"""Export of models to TorchScript, and dumps of its representations."""

import os
from typing import Any

import torch
from torch import nn

from detectron2.utils.file_io import PathManager

from .torchscript_patch import freeze_training_mode, patch_instances

__all__ = ["dump_torchscript_IR", "patch_instances", "scripting_with_instances"]


def dump_torchscript_IR(model: Any, dir: str) -> None:
    """Dump the representations of a traced or scripted model or function as text files.

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


def scripting_with_instances(model: nn.Module, fields: dict[str, type]) -> torch.jit.ScriptModule:
    """Compile a model that uses `Instances` by `torch.jit.script`.

    Args:
        model: in eval mode.
        fields: types by name of all fields in use; see `patch_instances`.
    """
    if model.training:
        raise ValueError("only models in eval mode can be scripted: call eval() first")
    with freeze_training_mode(model), patch_instances(fields):
        return torch.jit.script(model)
