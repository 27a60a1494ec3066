import pytest

from d2ext.config import get_cfg, learns_rotated_boxes


@pytest.mark.parametrize(
    ("changes", "rotated"),
    [
        ([], False),
        (["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], True),
        (["MODEL.DENSE_HEAD.ROTATED", True], True),
    ],
)
def test_rotated_boxes_are_learned_by_rotated_anchors_or_a_rotated_dense_head(changes, rotated):
    cfg = get_cfg()
    cfg.merge_from_list(changes)
    assert learns_rotated_boxes(cfg) is rotated
