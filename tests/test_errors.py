"""Messages of commands."""

import os
import subprocess
import sys

import pytest

CODE = """
from d2ext.errors import exit_on_user_error

exit_on_user_error(lambda: print("class \\ud800"))
"""


def test_names_that_no_terminal_takes_are_printed_escaped():
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert (run.returncode, run.stdout.strip()) == (0, b"class \\ud800"), run.stderr


def run(code, **more):
    program = f"from d2ext.errors import exit_on_user_error as run\n{code}"
    return subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, **more)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_nobody_takes_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("run(lambda: print('a'))", stdout=full)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert done.stderr.startswith(b"error: ")
    assert b"No space left on device" in done.stderr


def test_a_reader_that_has_enough_ends_a_command_quietly():
    read, write = os.pipe()
    os.close(read)
    done = run("run(lambda: print('a'))", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_one_line_wherever_it_is_met(tmp_path):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
def write():
    with open({str(tmp_path / "a")!r}, "wb", buffering=0) as file:
        file.write(b"12345678")
        file.write(b"12345678")
run(write)
"""
    done = run(code)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
    assert b"cannot be written (File too large)" in done.stderr
