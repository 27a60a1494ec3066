"""What a worker of a loader runs; spawned ones import it by this name."""

from pathlib import Path

ROLLUP = Path("/proc/self/smaps_rollup")


class Reads:
    """Reads all dicts, as a mapper that mixes pictures may, and says how much memory that took."""

    def __init__(self, items):
        self.items = items

    def __call__(self, item):
        for position in range(len(self.items)):
            self.items[position]
        return private_megabytes()


def private_megabytes():
    lines = ROLLUP.read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(kilobytes) / 1024
