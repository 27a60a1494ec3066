import random
from pathlib import Path

import pytest
import torch

from d2ext.checkpoint.checksum import is_undamaged
from d2ext.checkpoint.file_io import read_checkpoint, write_checkpoint
from d2ext.errors import WeightsError

WEIGHTS = torch.arange(64.0)


def test_a_flipped_bit_changes_no_weight_that_is_read(tmp_path: Path) -> None:
    path, draw = tmp_path / "a.pth", random.Random(0)
    write_checkpoint(path, {"model": {"a": WEIGHTS}})
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert torch.equal(read_checkpoint(path)["model"]["a"], WEIGHTS)
        except WeightsError:
            refused += 1
    assert refused > 100  # the rest is padding


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\5\6" + bytes(18)])
def test_what_is_no_checkpoint_is_damaged_or_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert is_undamaged(path) == (len(content) == 22)  # an empty zip file is a complete one
