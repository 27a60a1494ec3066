import torch

from d2ext.config import get_cfg
from d2ext.modeling.dense_heads import PostProcess


def test_nms_keeps_the_best_of_a_class_clipped_to_the_image():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 0, 60, 10]])
    scores, classes = torch.tensor([0.6, 0.9, 0.5, 0.8]), torch.tensor([1, 1, 2, 1])
    levels = zip(boxes.split(2), scores.split(2), classes.split(2), strict=True)
    postprocess = PostProcess(0.0, None, nms_thresh=0.5, max_detections=3)
    found = postprocess.detections(levels, (8, 20))
    assert found.pred_boxes.tensor.tolist() == [[1, 0, 11, 8], [0, 0, 10, 8]]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.5]))
    assert found.pred_classes.tolist() == [1, 2]


def test_thresholds_come_from_the_section_of_the_head():
    cfg = get_cfg()
    cfg.MODEL.ATSS.SCORE_THRESH_TEST, cfg.MODEL.ATSS.NMS_THRESH_TEST = 0.2, 0.7
    cfg.MODEL.ATSS.TOPK_CANDIDATES_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 30, 20
    assert PostProcess.from_config(cfg, cfg.MODEL.ATSS) == PostProcess(0.2, 30, 0.7, 20)
    del cfg.MODEL.ATSS["TOPK_CANDIDATES_TEST"]
    assert PostProcess.from_config(cfg, cfg.MODEL.ATSS).topk_candidates is None


def test_topk_returns_at_most_the_candidates_of_a_level():
    scores = torch.tensor([0.2, 0.9, 0.5])
    for count, expected in ((2, [1, 2]), (9, [1, 2, 0]), (None, [1, 2, 0])):
        best, index = PostProcess(0.0, count, 0.5, 3).topk(scores)
        assert index.tolist() == expected
        assert torch.equal(best, scores[index])
