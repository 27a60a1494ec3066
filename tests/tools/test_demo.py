import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def demo(*arguments):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py"), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )


def test_a_mistake_is_one_message_and_exit_status_2():
    done = demo("--config-file", "configs/dyhead_swint.yaml", "--input", "nothing here.jpg")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]  # after warnings of libraries, if any
    assert last.startswith("error: --input nothing here.jpg: no such file")
    assert "Traceback" not in done.stderr
