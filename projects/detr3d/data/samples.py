"""Samples: key frames with six images, their calibration and boxes, as Detectron2's dicts.

Boxes have the convention of the published weights, mmdetection3d's before 1.0: x, y, z of the
gravity centre, w, l, h in metres, yaw' = -yaw - pi / 2 in radians, vx, vy in m/s; all in the frame
of the lidar. An unknown velocity is NaN.
"""

from typing import Any

import numpy as np

from d2ext.projects.detr3d.data.classes import CLASS_OF_CATEGORY, CLASSES
from d2ext.projects.detr3d.data.geometry import (
    Array,
    camera_projection,
    inverse,
    rotation_matrices,
)

Item = dict[str, Any]
CAMERAS = (
    *("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT"),
    *("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
)


def calibrated(
    intrinsics: Array, camera2ego: Array, camera_poses: Array, lidar2ego: Array, pose: Array
) -> Item:
    """Return the calibration of a sample.

    The cameras fire at other times than the lidar, so each has an ego pose of its own.

    Args:
        intrinsics: (N, 3, 3).
        camera2ego, camera_poses: (N, 4, 4), the second from ego to global.
        lidar2ego, pose: 4 x 4, the second from ego to global at the lidar's time.
    """
    back = inverse(lidar2ego) @ inverse(pose)
    sensor2lidar = back @ camera_poses @ camera2ego
    projections = [camera_projection(*each) for each in zip(sensor2lidar, intrinsics, strict=True)]
    return {
        "sensor2lidar": sensor2lidar,
        "cam_intrinsic": intrinsics,
        "lidar2img": np.stack(projections),
        "lidar2ego": lidar2ego,
        "ego2global": pose,
    }


def boxes_in_lidar(
    centres: Array, sizes: Array, rotations: Array, velocities: Array, lidar2global: Array
) -> Array:
    """Convert boxes of the global frame to (n, 9) in the lidar frame.

    Args:
        centres: (n, 3) metres.
        sizes: (n, 3) width, length, height in metres.
        rotations: (n, 4) quaternions.
        velocities: (n, 2) m/s.
        lidar2global: 4 x 4.
    """
    back = inverse(lidar2global)
    places = centres @ back[:3, :3].T + back[:3, 3]
    turned = back[:3, :3] @ rotation_matrices(rotations)
    # The yaw of the published info files, which differs for tilted boxes from that of the metric:
    # the angle in a rotation about x, then y, then z, of row vectors.
    yaw = np.arctan2(-turned[:, 0, 1], turned[:, 0, 0])
    motion = np.concatenate((velocities, np.zeros((len(centres), 1))), axis=1) @ back[:3, :3].T
    stored = -yaw[:, None] - np.pi / 2
    return np.concatenate((places, sizes, stored, motion[:, :2]), axis=1)


def class_names(categories: list[str]) -> list[str]:
    """Return the detection class of each category, or the category where it has none."""
    return [CLASS_OF_CATEGORY.get(name, name) for name in categories]


def class_labels(names: list[str]) -> np.ndarray:
    """Return the index of each name in `CLASSES`, -1 for others: (n,) int64."""
    numbers = {name: number for number, name in enumerate(CLASSES)}
    return np.array([numbers.get(name, -1) for name in names], dtype=np.int64)
