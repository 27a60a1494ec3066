"""Label Studio's run lengths, in which it stores the masks of brushes."""

import numpy as np
from numpy.typing import NDArray


def decode_runs(content: bytes) -> NDArray[np.uint8]:
    """Decode Label Studio's run lengths, a stream of bits, the highest of each byte first.

    32 bits count the values, 5 hold the bits of a value less 1, four times 4 the bits of a length
    less 1. Then come runs: 1 bit says whether one value repeats, 2 which of the four lengths is
    used, then the length less 1 and one value, or as many values as the length says.

    Raises:
        IndexError: the stream ends early.
    """
    bits = _Bits(content)
    count, width = bits.take(32), bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    values = np.zeros(count if count <= len(content) << 16 else 0, np.uint8)
    position = 0
    while position < len(values):
        repeats = bits.take(1)
        end = position + 1 + bits.take(lengths[bits.take(2)])
        if repeats:
            values[position:end] = bits.take(width)
        else:
            values[position:end] = [bits.take(width) for _ in range(end - position)][
                : len(values) - position
            ]
        position = end
    return values


class _Bits:
    """Reads numbers of some bits from bytes."""

    def __init__(self, content: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(content, np.uint8)).tolist()
        self.position = 0

    def take(self, count: int) -> int:
        """Return the number in the next bits."""
        end = self.position + count
        if end > len(self.bits):
            raise IndexError("the run lengths end early")
        found = 0
        for bit in self.bits[self.position : end]:
            found = found << 1 | bit
        self.position = end
        return found
