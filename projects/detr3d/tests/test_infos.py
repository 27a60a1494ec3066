"""Info files of all generations give the samples of the tables; nothing in them is executed."""

import pickle

import numpy as np
import pytest

from d2ext.errors import DataError
from d2ext.projects.detr3d.data.geometry import inverse, quaternion_of
from d2ext.projects.detr3d.data.infos import load_infos
from d2ext.projects.detr3d.data.samples import CAMERAS

KEYS = ("lidar2img", "boxes_3d", "points", "ego2global", "lidar2ego", "labels")


def rigid_parts(name, matrix):
    return {
        f"{name}_rotation": quaternion_of(matrix[:3, :3]).tolist(),
        f"{name}_translation": matrix[:3, 3].tolist(),
    }


def info(item, swapped):
    """An entry of "infos" in the convention before 1.0, or since."""
    boxes = item["boxes_3d"][:, :7]
    if swapped:
        boxes = np.concatenate((boxes[:, :3], boxes[:, [4, 3, 5]], -boxes[:, 6:] - np.pi / 2), 1)
    camera_poses = item["ego2global"] @ item["lidar2ego"] @ item["sensor2lidar"]
    cameras = {
        name: {
            "data_path": f"./data/nuscenes/samples/{name}/x.jpg",
            "cam_intrinsic": item["cam_intrinsic"][number],
            **rigid_parts("sensor2ego", np.eye(4)),
            **rigid_parts("ego2global", camera_poses[number]),
        }
        for number, name in enumerate(CAMERAS)
    }
    return {
        "token": item["image_id"],
        "timestamp": item["timestamp"] * 1e6,
        "cams": cameras,
        **rigid_parts("lidar2ego", item["lidar2ego"]),
        **rigid_parts("ego2global", item["ego2global"]),
        "gt_boxes": boxes,
        "gt_names": np.array(item["names"]),
        "gt_velocity": item["boxes_3d"][:, 7:],
        "num_lidar_pts": item["points"],
        "num_radar_pts": np.zeros_like(item["points"]),
        "valid_flag": item["points"] > 0,
    }


def instances(item):
    """An entry of "data_list"."""
    back = inverse(item["ego2global"]) @ item["ego2global"]
    boxes = item["boxes_3d"]
    entries = [
        {
            "bbox_3d": [*box[:3], box[4], box[3], box[5], -box[6] - np.pi / 2],
            "velocity": box[7:].tolist(),
            "bbox_label": int(label),
            "num_lidar_pts": int(points),
            "num_radar_pts": 0,
        }
        for box, label, points in zip(boxes, item["labels"], item["points"], strict=True)
    ]
    cameras = {
        name: {
            "img_path": "x.jpg",
            "cam2img": item["cam_intrinsic"][number].tolist(),
            "lidar2cam": inverse(item["sensor2lidar"][number] @ back).tolist(),
        }
        for number, name in enumerate(CAMERAS)
    }
    return {
        "token": item["image_id"],
        "timestamp": item["timestamp"],
        "images": cameras,
        "ego2global": item["ego2global"].tolist(),
        "lidar_points": {"lidar2ego": item["lidar2ego"].tolist()},
        "instances": entries,
    }


def written(path, content):
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("generation", ["before 1.0", "1.0", "1.1"])
def test_each_generation_gives_the_samples_of_the_tables(generation, items, tmp_path):
    if generation == "1.1":
        content = {"metainfo": {}, "data_list": [instances(item) for item in items]}
    else:
        content = {"infos": [info(item, generation == "1.0") for item in items], "metadata": {}}
    found = load_infos(written(tmp_path / "infos.pkl", content))
    assert [each["image_id"] for each in found] == [item["image_id"] for item in items]
    for each, item in zip(found, items, strict=True):
        for key in KEYS:
            np.testing.assert_allclose(each[key], item[key], atol=1e-6, err_msg=key)
        assert each["cameras"][1] == str(tmp_path / "samples/CAM_FRONT_RIGHT/x.jpg")
        for key in ("translation", "size"):
            np.testing.assert_allclose(each["truth"][key], item["truth"][key], atol=1e-6)


def test_mixed_generations_are_refused(items, tmp_path):
    content = {"infos": [info(item, number % 2 == 0) for number, item in enumerate(items)]}
    with pytest.raises(DataError, match="both generations"):
        load_infos(written(tmp_path / "infos.pkl", content))


class Harmful:
    """A pickled value that runs code when it is read as usual."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    with pytest.raises(DataError, match=r"builtins\.exec, which is not data"):
        load_infos(written(tmp_path / "infos.pkl", {"infos": [Harmful()]}))


@pytest.mark.parametrize("content", [[], {"infos": 3}, {"other": []}])
def test_other_pickles_are_refused(content, tmp_path):
    with pytest.raises(DataError, match="no info file"):
        load_infos(written(tmp_path / "infos.pkl", content))
