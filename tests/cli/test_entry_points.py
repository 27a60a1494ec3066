"""What the commands set before PyTorch is imported."""

import os
import subprocess
import sys

import pytest

CODE = (
    "import sys, os, d2ext.cli.entry_points; assert 'torch' not in sys.modules;"
    "print(os.environ.get('GOMP_SPINCOUNT'))"
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "100000"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "None"), ({"GOMP_SPINCOUNT": "9"}, "9")],
)
def test_threads_spin_briefly_unless_the_user_says_otherwise(given, expected):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {key: value for key, value in os.environ.items() if key not in names} | given
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
