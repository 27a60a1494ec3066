"""Fixed copy of panoptic data: COCO's panoptic JSON and its segment maps."""

import json
from pathlib import Path

from d2ext.data.checks.segments import read_segment_map_info
from d2ext.data.containment import copy_image_file
from d2ext.data.formats import DatasetSplit, Item
from d2ext.files import replacing


def write_segments(name: str, split: DatasetSplit, out: Path) -> Path:
    """Write `<out>/<name>.json` and copy the segment maps to `<out>/<name>/`.

    Segments without a pixel are left out, of several with one id all but the last; areas are
    counted anew where they contradict the segment map.
    """
    (out / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, image in enumerate(split.images, start=1):
        file = f"{Path(image['file_name']).stem}.png"
        copy_image_file(Path(image["pan_seg_file_name"]), out / name / file)
        shown = Path(image["file_name"]).relative_to(out / "images" / name).as_posix()
        size = {key: image[key] for key in ("height", "width")}
        images.append({"id": number, "file_name": shown, **size})
        segments = _fixed_segments(image)
        annotations.append({"image_id": number, "file_name": file, "segments_info": segments})
    isthing = split.metadata["isthing"]
    categories = [
        {"id": number, "name": label, "isthing": int(thing)}
        for number, (label, thing) in enumerate(zip(split.classes, isthing, strict=True), start=1)
    ]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path = out / f"{name}.json"
    with replacing(path) as part:
        part.write_text(json.dumps(document), encoding="utf-8")
    return path


def _fixed_segments(image: Item) -> list[Item]:
    pixels = read_segment_map_info(image["pan_seg_file_name"]).pixels or {}
    last = {segment["id"]: segment for segment in image["segments_info"]}
    return [
        {
            **{key: value for key, value in segment.items() if key != "isthing"},
            "category_id": segment["category_id"] + 1,
            "area": pixels[number],
        }
        for number, segment in last.items()
        if number in pixels
    ]
