"""COCO's evaluation in C++: the numbers of pycocotools, several times faster."""

from typing import Any

import faster_coco_eval

__all__ = ["COCOeval_opt"]


class COCOeval_opt(faster_coco_eval.COCOeval_faster):
    """The evaluation of faster-coco-eval on `COCO` objects of pycocotools.

    Args:
        cocoGt: annotations.
        cocoDt: detections, `cocoGt.loadRes(...)`.
        iouType: "bbox", "segm" or "keypoints".

    Raises:
        KeyError: an annotation lacks a key that pycocotools needs: "area", "iscrowd" or, for
            keypoints, "num_keypoints".
    """

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "segm") -> None:
        if cocoGt is not None:
            _check_fields(cocoGt.dataset.get("annotations", []), iouType)
        super().__init__(_as_fast(cocoGt), _as_fast(cocoDt), iouType)
        if self.cocoGt is not None:  # also categories without objects, which it omits for keypoints
            self.params.catIds = sorted(self.cocoGt.getCatIds())

    def _summarize(
        self, ap: int = 1, iouThr: Any = None, areaRng: str = "all", **options: Any
    ) -> float:
        """Summarise precision or recall; -1 if the parameters have no such range of areas."""
        if areaRng not in self.params.areaRngLbl:
            return -1.0
        return super()._summarize(ap, iouThr, areaRng, **options)


def _check_fields(annotations: list[dict[str, Any]], kind: str) -> None:
    needed = ["area", "iscrowd"] + ["num_keypoints"] * (kind == "keypoints")
    for annotation in annotations:
        for field in needed:
            if field not in annotation:
                raise KeyError(f"annotation {annotation.get('id')} has no {field!r}")


def _as_fast(api: Any) -> faster_coco_eval.COCO | None:
    if api is None or isinstance(api, faster_coco_eval.COCO):
        return api
    return faster_coco_eval.COCO(api.dataset)
