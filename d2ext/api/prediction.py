"""What a model predicts for one image, and its conversion to other libraries' forms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from d2ext.errors import ConfigError
from d2ext.inference.prediction_files import save_picture
from d2ext.inference.prediction_kinds import PredictionKind, prediction_kind
from d2ext.inference.tracking import ByteTracker, select_shown
from detectron2.structures import Instances

if TYPE_CHECKING:
    from supervision import Detections


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for an image, reduced to what reaches the confidence.

    Args:
        output: what the meta-architecture returned, such as {"instances": Instances}.
        found: the entry of it that is shown, on the CPU: `Instances` with `pred_boxes` in pixels,
            `scores`, `pred_classes` and, where there, `pred_masks`, `pred_keypoints` and, of
            `Model.track`, `track_ids`.
        image: (H, W, 3) RGB uint8.
        names: of the classes, in the order of their indices.
        file: that the image was read from, "" for one in memory.
    """

    output: Mapping[str, Any]
    found: Any
    image: NDArray[np.uint8]
    names: Sequence[str]
    file: str
    _kind: PredictionKind

    @classmethod
    def of(
        cls,
        output: Mapping[str, Any],
        image: NDArray[np.uint8],
        names: Sequence[str],
        confidence: float,
        file: str = "",
        tracker: ByteTracker | None = None,
    ) -> "Prediction":
        """Select what reaches a score of `confidence`, or what the tracker follows."""
        key, kind = prediction_kind(output)
        found = select_shown(kind, output[key], confidence, tracker)
        return cls(output, found, image, names, file, kind)

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.found)

    @property
    def instances(self) -> Instances:
        """The detections as Detectron2's `Instances`.

        Raises:
            ConfigError: the model predicts something else.
        """
        if not isinstance(self.found, Instances):
            raise ConfigError(f"the model predicts {', '.join(self.output)}, no instances.")
        return self.found

    @property
    def class_names(self) -> list[str]:
        """The class name of each detection."""
        return [record["class_name"] for record in self.as_json()]

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw the detections on a copy of the image; write it to `path`, if one is given."""
        picture = self._kind.draw(self.image, self.found, self.names)
        if path is not None:
            save_picture(Path(path), picture)
        return Image.fromarray(picture)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the detections as predictions.json has them."""
        return self._kind.as_json(self.found, self.names)

    def to_coco(
        self, image_id: int | str, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Return the detections in COCO's results format; boxes are x, y, width, height in pixels.

        Args:
            image_id: of the image in the annotation file.
            category_ids: of the classes, in the order of `names`; None counts from 1.
        """
        results = []
        for record in self.as_json():
            box, label = record["box"], record["class_id"]
            if len(box) == 4:
                box = [box[0], box[1], round(box[2] - box[0], 2), round(box[3] - box[1], 2)]
            number = label + 1 if category_ids is None else category_ids[label]
            result = {"image_id": image_id, "category_id": number, "bbox": box}
            result["score"] = record["score"]
            if "mask" in record:
                result["segmentation"] = record["mask"]
            if "keypoints" in record:
                result["keypoints"] = [value for point in record["keypoints"] for value in point]
            results.append(result)
        return results

    def to_supervision(self) -> "Detections":
        """Return the detections as `supervision.Detections`; boxes are x0, y0, x1, y1 in pixels.

        Rotated boxes become the upright boxes around them, with their corners in
        `data["xyxyxyxy"]`.

        Raises:
            ConfigError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError("to_supervision needs `pip install supervision`.") from error
        found = self.instances
        boxes = found.pred_boxes.tensor.numpy().astype(np.float64)
        data: dict[str, Any] = {"class_name": np.array(self.class_names, dtype=object)}
        if boxes.shape[1] == 5:
            from d2ext.ops import rotated_corners

            corners = rotated_corners(found.pred_boxes.tensor).numpy()
            data["xyxyxyxy"] = corners
            boxes = np.concatenate((corners.min(1), corners.max(1)), axis=1)
        masks = found.pred_masks.numpy().astype(bool) if found.has("pred_masks") else None
        return supervision.Detections(
            xyxy=boxes,
            mask=masks if len(found) else None,
            confidence=found.scores.numpy(),
            class_id=found.pred_classes.numpy(),
            tracker_id=found.track_ids.numpy() if found.has("track_ids") else None,
            data=data,
        )
