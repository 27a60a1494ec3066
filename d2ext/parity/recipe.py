"""The recipe of reference cases: reproducible made-up weights, images and boxes.

A model of ours is compared with the one that its authors published, without downloading weights:
both get the same made-up weights and images, and must give the same numbers. Every weight depends
on its name and shape alone, every image on its seed and size.
"""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

Entry = tuple[str, Sequence[int], str]  # name, shape and dtype


def fill(name: str, shape: Sequence[int]) -> np.ndarray:
    """Generate a float32 value for the parameter or buffer `name` of `shape`.

    Matrices and kernels are normal with variance 1 / fan-in, so activations neither die
    nor explode; norm scales stay near 1, running variances stay positive.
    """
    # Seeded by the name: the values do not depend on the order or number of parameters.
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = rng.standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return np.asarray(1.0 + 0.1 * np.abs(noise), dtype=np.float32)
    if name.endswith("running_mean"):
        return np.asarray(0.1 * noise, dtype=np.float32)
    if len(shape) >= 2:
        return np.asarray(noise / np.sqrt(np.prod(shape[1:])), dtype=np.float32)
    if name.endswith("weight") or len(shape) == 0:
        return np.asarray(1.0 + 0.05 * noise, dtype=np.float32)
    return np.asarray(0.05 * noise, dtype=np.float32)


def fill_state_dict(entries: Iterable[Entry]) -> dict[str, Tensor]:
    """Generate a state dict for `entries`, an iterable of (name, shape, dtype string).

    Integer and boolean entries (counters, index tables) are left out: a model keeps its own.
    """
    return {
        name: torch.from_numpy(fill(name, shape))
        for name, shape, dtype in entries
        if dtype in ("float32", "float16", "bfloat16", "float64")
    }


def image(seed: int, height: int, width: int) -> np.ndarray:
    """Generate an (H, W, 3) uint8 image: smooth colour fields with a few hard-edged boxes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    out = np.zeros((height, width, 3), np.float32)
    for c in range(3):
        for _ in range(4):
            fy, fx, phase = rng.uniform(0.01, 0.15), rng.uniform(0.01, 0.15), rng.uniform(0, 6.28)
            out[..., c] += np.sin(fy * y + fx * x + phase)
    out = 127 + 30 * out
    for _ in range(6):
        y0, x0 = int(rng.integers(0, max(1, height - 8))), int(rng.integers(0, max(1, width - 8)))
        h, w = int(rng.integers(8, max(9, height // 2))), int(rng.integers(8, max(9, width // 2)))
        out[y0 : y0 + h, x0 : x0 + w] = rng.uniform(0, 255, size=3)
    return np.clip(out, 0, 255).astype(np.uint8)


def boxes(
    seed: int, height: int, width: int, count: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Generate `count` boxes, float32 (N, 4) XYXY in pixels, and their classes, int64 (N,)."""
    rng = np.random.Generator(np.random.PCG64(seed + 1_000_003))
    w = rng.uniform(0.15, 0.6, count) * width
    h = rng.uniform(0.15, 0.6, count) * height
    x0 = rng.uniform(0, 1, count) * (width - w)
    y0 = rng.uniform(0, 1, count) * (height - h)
    return (
        np.stack([x0, y0, x0 + w, y0 + h], axis=1).astype(np.float32),
        rng.integers(0, num_classes, count).astype(np.int64),
    )


def digest(array: np.ndarray, limit: int = 4096) -> dict[str, np.ndarray]:
    """Digest a large array for storage: shape, mean, std, `limit` evenly spaced values."""
    a = np.ascontiguousarray(np.asarray(array, dtype=np.float32))
    flat = a.reshape(-1)
    step = max(1, -(-flat.size // limit))
    return {
        "shape": np.asarray(a.shape, np.int64),
        "mean": np.asarray(flat.mean(dtype=np.float64) if flat.size else 0.0),
        "std": np.asarray(flat.std(dtype=np.float64) if flat.size else 0.0),
        "sample": flat[::step].copy(),
    }
