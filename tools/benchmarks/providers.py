"""Runs of one script with the bundled detectron2 and with the official one, in turns.

Both packages have the same name, so each run is a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def in_turns(script: str, arguments: list[str], official: str | None, rounds: int) -> dict:
    """Run `script` with each provider in turns and return what it printed.

    Args:
        script: prints JSON in its last line.
        arguments: of the script.
        official: folder that holds the official `detectron2`, or None to leave it out.
        rounds: runs per provider. They take turns, so that both see the same load of the machine.
    Returns:
        One parsed value per round, by "d2ext" and "official".
    Raises:
        subprocess.CalledProcessError: the script fails.
    """
    here = f"{ROOT}{os.pathsep}{ROOT / 'tools'}"
    searched = {"d2ext": here}
    if official is not None:
        searched["official"] = f"{here}{os.pathsep}{official}"
    found: dict[str, list] = {name: [] for name in searched}
    for _ in range(rounds):
        for name, path in searched.items():
            found[name].append(_run(path, [script, *arguments]))
    return found


def _run(search_path: str, command: list[str]) -> Any:
    environment = {**os.environ, "PYTHONPATH": search_path}
    done = subprocess.run(
        [sys.executable, *command], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])  # the lines before are logs of the packages
