"""`detectron2.utils.env.setup_environment`: the user's setup module."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_users_setup_module_is_called_once(tmp_path: Path):
    module = tmp_path / "mine.py"
    module.write_text("def setup_environment():\n    print('set up')\n", encoding="utf-8")
    code = (
        "import d2ext, detectron2; from detectron2.utils.env import setup_environment; "
        "setup_environment()"
    )
    environment = {**os.environ, "DETECTRON2_ENV_MODULE": str(module)}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert output.split("\n").count("set up") == 1
