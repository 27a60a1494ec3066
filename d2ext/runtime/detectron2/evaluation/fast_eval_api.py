"""COCO's evaluation in C++: the numbers of pycocotools, several times sooner."""

from typing import Any

import faster_coco_eval

__all__ = ["COCOeval_opt"]


class COCOeval_opt(faster_coco_eval.COCOeval_faster):
    """faster-coco-eval's evaluation on objects of pycocotools' `COCO`.

    Args:
        cocoGt: annotations.
        cocoDt: detections, `cocoGt.loadRes(...)`.
        iouType: "bbox", "segm" or "keypoints".
    """

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "segm") -> None:
        super().__init__(_as_fast(cocoGt), _as_fast(cocoDt), iouType)
        if self.cocoGt is not None:  # also categories without objects, which it omits for keypoints
            self.params.catIds = sorted(self.cocoGt.getCatIds())


def _as_fast(api: Any) -> faster_coco_eval.COCO | None:
    if api is None or isinstance(api, faster_coco_eval.COCO):
        return api
    return faster_coco_eval.COCO(api.dataset)
