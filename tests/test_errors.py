"""Messages of commands."""

import os
import subprocess
import sys

CODE = """
from d2ext.errors import exit_on_user_error

exit_on_user_error(lambda: print("class \\ud800"))
"""


def test_names_that_no_terminal_takes_are_printed_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert (run.returncode, run.stdout.strip()) == (0, b"class \\ud800"), run.stderr
