"""Pictures show boxes where the cameras see them and where they lie around the vehicle."""

import numpy as np

from d2ext.projects.detr3d.visualization import Drawn, corners, draw_birds_eye, draw_sample

RED = (255, 0, 0)


def drawn(*centre, size=(2.0, 4.0, 1.5), yaw=0.0):
    box = np.array([[*centre, *size, -yaw - np.pi / 2, 0, 0]])
    return Drawn(box, [RED], [""])


def test_corners_of_a_box_have_its_length_along_its_yaw():
    points = corners(drawn(1, 2, 3, yaw=0.0).boxes)[0]
    assert points.min(axis=0).round(6).tolist() == [-1, 1, 2.25]
    assert points.max(axis=0).round(6).tolist() == [3, 3, 3.75]
    turned = corners(drawn(1, 2, 3, yaw=np.pi / 2).boxes)[0]
    assert np.ptp(turned, axis=0).round(6).tolist() == [2, 4, 1.5]


def test_a_box_ahead_lies_in_the_upper_half_of_the_birds_eye_view():
    red = (draw_birds_eye([drawn(0, 20, 0)], 200) != 255).any(axis=2)
    plain = (draw_birds_eye([], 200) != 255).any(axis=2)
    rows, columns = np.nonzero(red & ~plain)
    assert rows.max() < 80
    assert 90 < columns.mean() < 110


def test_a_box_ahead_is_drawn_by_the_front_camera_alone(items):
    item = items[0]
    ahead = np.linalg.inv(item["ego2global"] @ item["lidar2ego"])
    centre = ahead @ item["ego2global"] @ np.array([12.0, 0, 1, 1])
    picture = draw_sample(item, [drawn(*centre[:3], size=(1, 1, 1))], height=90)
    plain = draw_sample(item, [], height=90)
    changed = np.nonzero((picture != plain).any(axis=2)[:, : 3 * 160])
    assert picture.shape == (180, 3 * 160 + 180, 3)
    assert changed[0].max() < 90
    assert 160 <= changed[1].min() <= changed[1].max() < 320


def test_boxes_across_the_camera_and_behind_it_can_be_drawn(items):
    boxes = [drawn(0, 0, 0, size=(20, 20, 20)), drawn(0, 0, 0, size=(0.1, 0.1, 0.1))]
    assert draw_sample(items[0], boxes, height=90).shape == (180, 660, 3)
