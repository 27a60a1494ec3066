"""The hardware that values of a config follow from."""

from dataclasses import dataclass

from d2ext.engine.batch_probe import Probe


@dataclass(frozen=True)
class Machine:
    """The hardware that a run uses.

    Args:
        device: "cpu" or "cuda".
        processes: number of training processes over all machines.
        cores: CPU cores per process.
        bfloat16: the device computes in bfloat16 without emulation.
        probe: tries batch sizes on the GPU, see `d2ext.engine.batch_probe`; None: not available.
    """

    device: str
    processes: int
    cores: int
    bfloat16: bool
    probe: Probe | None = None
