"""Rotations and rigid transforms as NumPy arrays; quaternions are w, x, y, z."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def rotation_matrices(quaternions: ArrayLike) -> Array:
    """Convert (..., 4) quaternions, which are normalised first, to (..., 3, 3) matrices."""
    q = np.asarray(quaternions, dtype=np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_of(rotation: Array) -> Array:
    """Convert a 3 x 3 rotation matrix to the quaternion (4,) whose w is not negative."""
    # The eigenvector of the largest eigenvalue (Bar-Itzhack 2000): exact for rotations, and the
    # nearest one for matrices that are off by rounding.
    (a, b, c), (d, e, f), (g, h, i) = rotation
    symmetric = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h],
            [d - b, c + g, f + h, i - a - e],
        ]
    )
    quaternion = np.linalg.eigh(symmetric / 3)[1][:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion


def multiply_quaternions(left: ArrayLike, right: ArrayLike) -> Array:
    """Return the quaternions of the rotation `right` followed by `left`: (..., 4)."""
    a, b, c, d = np.moveaxis(np.asarray(left, dtype=np.float64), -1, 0)
    w, x, y, z = np.moveaxis(np.asarray(right, dtype=np.float64), -1, 0)
    product = (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )
    return np.stack(product, axis=-1)


def yaw_quaternions(yaw: ArrayLike) -> Array:
    """Return the quaternions of rotations about z: (...) radians -> (..., 4)."""
    half = np.asarray(yaw, dtype=np.float64) / 2
    zeros = np.zeros_like(half)
    return np.stack((np.cos(half), zeros, zeros, np.sin(half)), axis=-1)


def yaw_of(rotations: Array) -> Array:
    """Return the angle of the turned x axis in the x, y plane: (..., 3, 3) -> (...) radians."""
    return np.arctan2(rotations[..., 1, 0], rotations[..., 0, 0])


def rigid(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """Build a 4 x 4 transform from a quaternion or a 3 x 3 matrix and a translation in metres."""
    matrix = np.eye(4)
    turned = np.asarray(rotation, dtype=np.float64)
    matrix[:3, :3] = rotation_matrices(turned) if turned.shape == (4,) else turned
    matrix[:3, 3] = translation
    return matrix


def inverse(transform: Array) -> Array:
    """Invert a rigid 4 x 4 transform."""
    matrix = np.eye(4)
    matrix[:3, :3] = transform[:3, :3].T
    matrix[:3, 3] = -transform[:3, :3].T @ transform[:3, 3]
    return matrix


def camera_projection(sensor2lidar: Array, intrinsic: Array) -> Array:
    """Return lidar2img, the 4 x 4 matrix from lidar coordinates to pixels times depth."""
    padded = np.eye(4)
    padded[:3, :3] = intrinsic
    return padded @ inverse(sensor2lidar)
