"""The message for a worker of a data loader that the system has ended."""

import re

from d2ext.errors import UserError
from d2ext.processes import end_children

# PyTorch raises a RuntimeError of this text, wherever the training is at that moment.
_KILLED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)")


def explain_killed_worker(error: Exception) -> None:
    """Explain an error that says that a worker was killed.

    Raises:
        UserError: it does; the other workers are ended, too.
    """
    if not _KILLED.search(str(error)):
        return
    end_children()  # PyTorch would raise the same again while the training is closed
    raise UserError(
        "a worker of the data loader was killed, as the system does where memory runs out. Fewer "
        "DATALOADER.NUM_WORKERS or a smaller batch need less; --resume goes on from the last "
        "checkpoint."
    ) from error
