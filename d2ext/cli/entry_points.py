"""Entry points of the commands that `pip install` provides, such as `d2ext-train`."""

import warnings
from typing import NoReturn

from d2ext.cli.thread_waiting import set_thread_waiting
from d2ext.errors import exit_on_user_error

set_thread_waiting()  # before PyTorch is imported

# fvcore scripts a function at import, which PyTorch deprecates; users cannot change that.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)


def train() -> NoReturn:
    """Train or evaluate a detector."""
    from d2ext.cli.train import main

    exit_on_user_error(main)


def demo() -> NoReturn:
    """Find objects in images."""
    from d2ext.cli.demo import main

    exit_on_user_error(main)


def export() -> NoReturn:
    """Write a model as a file that runs without d2ext."""
    from d2ext.cli.export import main

    exit_on_user_error(main)


def benchmark() -> NoReturn:
    """Print AP and latency of models and exported files."""
    from d2ext.cli.benchmark_models import main

    exit_on_user_error(main)


def parity() -> NoReturn:
    """Compare models with their authors' code."""
    from d2ext.cli.parity import main

    exit_on_user_error(main)


def convert_weights() -> NoReturn:
    """Convert a published checkpoint."""
    from d2ext.cli.convert_weights import main

    exit_on_user_error(main)


def show_data() -> NoReturn:
    """Write a page about a data set."""
    from d2ext.cli.show_data import main

    exit_on_user_error(main)


def report() -> NoReturn:
    """Write a page about a run."""
    from d2ext.cli.report import main

    exit_on_user_error(main)


def check_data() -> NoReturn:
    """Find issues of a data set."""
    from d2ext.cli.check_data import main

    exit_on_user_error(main)


def convert_data() -> NoReturn:
    """Convert a data set to another format."""
    from d2ext.cli.convert_data import main

    exit_on_user_error(main)


def config() -> NoReturn:
    """Print config keys."""
    from d2ext.cli.config import main

    exit_on_user_error(main)


def models() -> NoReturn:
    """List published weights or fetch them."""
    from d2ext.cli.models import main

    exit_on_user_error(main)
