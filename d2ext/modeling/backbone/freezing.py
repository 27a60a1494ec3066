"""Freezing of a backbone's first stages, as `MODEL.BACKBONE.FREEZE_AT` counts them."""

from collections.abc import Sequence

from torch import nn

from detectron2.config import CfgNode


class FreezableStages(nn.Module):
    """A backbone whose first layers can be frozen: they don't learn and stay in evaluation mode.

    Frozen layers cost no gradient memory, as no gradient passes them. Their batch norms keep the
    statistics, and their dropout is off.

    Attributes:
        frozen: the frozen modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frozen: tuple[nn.Module, ...] = ()

    def freeze_first(self, names: Sequence[str]) -> None:
        """Freeze the parameters of these full names, and the modules that have no others."""
        chosen = set(names)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in chosen)
        inner = (module for module in self.modules() if module is not self)
        self.frozen = tuple(module for module in inner if _is_frozen(module))
        self.train(self.training)

    def train(self, mode: bool = True) -> "FreezableStages":
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def configured_freeze_at(cfg: CfgNode) -> int:
    """Return FREEZE_AT of a backbone other than Detectron2's ResNets; 0 without MODEL.WEIGHTS.

    Detectron2's default of 2 stands in every config that says nothing, and random layers would
    stay random.
    """
    return cfg.MODEL.BACKBONE.FREEZE_AT if cfg.MODEL.WEIGHTS else 0


def stages_to_freeze(strides: Sequence[int], freeze_at: int) -> int:
    """Return the number of stages that FREEZE_AT freezes, not counting the stem.

    0 and 1 freeze no stage (1 freezes the stem), n those whose stride is at most 2 ** n: 2 to 5
    are res2 to res5 of a ResNet.

    Args:
        strides: of the stages in order, in pixels.
    """
    return sum(stride <= 2**freeze_at for stride in strides) if freeze_at >= 2 else 0


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)
