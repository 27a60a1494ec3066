"""Which `detectron2` this process uses: the official package or the bundled runtime.

The folder of the runtime is added to `sys.path` because spawned workers inherit that, and at its
end because an official install, editable or not, must win.
"""

import importlib.util
import os
import sys
from pathlib import Path

RUNTIME = Path(__file__).parent / "runtime"
ENVIRONMENT_VARIABLE = "D2EXT_DETECTRON2"
# Tells the bundled runtime who registers torch.ops.detectron2.*, also in spawned workers.
OPERATORS_VARIABLE, OPERATORS = "DETECTRON2_OPERATORS", "d2ext.ops.detectron2_names"


def provide() -> None:
    """Make `import detectron2` work.

    The official package is used wherever it is installed. `D2EXT_DETECTRON2=bundled` puts the
    bundled runtime first all the same.

    Raises:
        ImportError: the variable asks for the runtime, but another detectron2 is imported already,
            or the variable has another value than "bundled" or "".
    """
    wanted = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if wanted not in ("", "bundled"):
        raise ImportError(f"{ENVIRONMENT_VARIABLE}={wanted}: the only value is 'bundled'.")
    if wanted == "bundled":
        _refuse_second_provider()
        sys.path.insert(0, str(RUNTIME))
    elif not _installed():
        sys.path.append(str(RUNTIME))
    if provider() == "bundled":
        os.environ.setdefault(OPERATORS_VARIABLE, OPERATORS)


def provider() -> str:
    """Return where `detectron2` comes from in this process: `bundled` or `official`."""
    spec = importlib.util.find_spec("detectron2")
    bundled = spec is not None and Path(str(spec.origin)).is_relative_to(RUNTIME)
    return "bundled" if bundled else "official"


def _installed() -> bool:
    # An empty folder named detectron2 on sys.path gives a spec without an origin.
    spec = importlib.util.find_spec("detectron2")
    return spec is not None and spec.origin is not None


def _refuse_second_provider() -> None:
    loaded = getattr(sys.modules.get("detectron2"), "__file__", None)
    if loaded is not None and not Path(loaded).is_relative_to(RUNTIME):
        raise ImportError(
            f"{ENVIRONMENT_VARIABLE}=bundled, but {loaded} is imported already: "
            "import d2ext before detectron2."
        )
