"""Small sound samples of every format that the fuzzer damages."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TESTS = Path(__file__).resolve().parents[1] / "tests"
SAMPLES = TESTS / "data" / "samples"
NUSCENES = TESTS / "parity" / "nuscenes_mini" / "data"
OPERATORS = "operators.seed"
RESULTS = "coco_instances_results.json"
WIDTH, HEIGHT = 32, 24  # pixels
_TRIANGLE = [[1, 1], [20, 1], [20, 15]]
_RUNS = {"size": [HEIGHT, WIDTH], "counts": "0`1`f0"}
_BOX = {"xtl": 4, "ytl": 5, "xbr": 14, "ybr": 9}


def write_samples(folder: Path) -> dict[str, Path]:
    """Write a sample of each format into `folder`; return name -> its folder or that of tests."""
    found = {path.name: path for path in sorted(SAMPLES.iterdir()) if path.is_dir()}
    for write in (
        _write_masks,
        _write_tables,
        _write_labelme,
        _write_via,
        _write_cvat,
        _write_label_studio,
        _write_panoptic,
        _write_cityscapes,
        _write_archive,
        _write_nuscenes,
        _write_results,
        _write_checkpoints,
        _write_operators,
    ):
        name = write.__name__.removeprefix("_write_")
        write(folder / "samples" / name)
    return found | {path.name: path for path in sorted((folder / "samples").iterdir())}


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def _write_image(path: Path, pixels: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(black if pixels is None else pixels).save(path)


def _coco(masks: list[Any]) -> dict[str, Any]:
    common = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 15], "area": 9, "iscrowd": 0}
    return {
        "info": {},
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            common | {"id": n, "segmentation": mask} for n, mask in enumerate(masks, start=1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }


def _write_masks(folder: Path) -> None:
    """Write COCO's polygons and run lengths, as a list and as text."""
    polygon = [[1, 1, 20, 1, 20, 15]]
    runs = {"size": [HEIGHT, WIDTH], "counts": [100, 20, 648]}
    _write(folder / "train.json", _coco([polygon, runs, _RUNS]))
    _write_image(folder / "a.png")


def _write_tables(folder: Path) -> None:
    _write(folder / "train.csv", "image,xmin,ymin,xmax,ymax,label\na.png,1,1,9,9,cat\n")
    _write_image(folder / "a.png")
    _write(folder.with_name("dota") / "labelTxt" / "a.txt", "1 1 9 1 9 9 1 9 cat 0\n")
    _write_image(folder.with_name("dota") / "images" / "a.png")


def _write_labelme(folder: Path) -> None:
    shape = {"label": "cat", "shape_type": "polygon", "points": _TRIANGLE}
    _write(folder / "a.json", {"imagePath": "a.png", "shapes": [shape]})
    _write_image(folder / "a.png")


def _write_via(folder: Path) -> None:
    rectangle = {"name": "rect", "x": 1, "y": 1, "width": 9, "height": 9}
    polygon = {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]}
    regions = [
        {"shape_attributes": shape, "region_attributes": {"class": "cat"}}
        for shape in (rectangle, polygon)
    ]
    _write(folder / "via.json", {"a.png": {"filename": "a.png", "size": 1, "regions": regions}})
    _write_image(folder / "a.png")


def _write_cvat(folder: Path) -> None:
    sides = " ".join(f'{key}="{value}"' for key, value in _BOX.items())
    shapes = (
        f'<box label="nut" {sides}/><box label="nut" {sides} rotation="30.0"/>'
        '<polygon label="bolt" points="1.0,2.0;5.0,2.0;5.0,8.0"/>'
        '<mask label="nut" rle="0, 4, 2, 2" left="3" top="4" width="4" height="2"/>'
        '<skeleton label="man"><points label="left eye" points="3,5"/>'
        '<points label="right eye" occluded="1" points="2,5"/></skeleton>'
    )
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    text = f'<?xml version="1.0"?><annotations><version>1.1</version>{image}</annotations>'
    _write(folder / "annotations.xml", text)
    _write_image(folder / "images" / "a.png")


def _write_label_studio(folder: Path) -> None:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    box = {"x": 25.0, "y": 50.0, "width": 50.0, "height": 25.0, "rotation": 0}
    values = {"rectanglelabels": box, "polygonlabels": {"points": _TRIANGLE}}
    regions = [
        size | {"id": "r", "type": kind, "value": value | {kind: ["cat"]}}
        for kind, value in values.items()
    ]
    task = {"id": 7, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}}
    _write(folder / "project-1.json", [task | {"annotations": [{"result": regions}]}])
    _write_image(folder / "images" / "a.png")


def _write_panoptic(folder: Path) -> None:
    ids = np.zeros((HEIGHT, WIDTH, 3), np.uint8)  # the red channel is an id's last byte
    ids[:12, :, 0], ids[12:, :, 0] = 1, 2
    segments = [
        {"id": n, "category_id": n, "iscrowd": 0, "area": 12 * WIDTH, "bbox": [0, y, WIDTH, 12]}
        for n, y in ((1, 0), (2, 12))
    ]
    names = enumerate(("cat", "sky"), start=1)
    document = {
        "info": {},
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": n, "name": name, "isthing": n % 2} for n, name in names],
    }
    _write(folder / "panoptic_train.json", document)
    _write_image(folder / "panoptic_train" / "a.png", ids)
    _write_image(folder / "images" / "a.png")


def _write_cityscapes(folder: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), 7, "<u2")
    ids[:10, :20], ids[12:20, 8:20] = 26000, 24
    for split, city in (("train", "ulm"), ("val", "jena")):
        stem = f"{split}/{city}/{city}_000000_000000"
        _write_image(folder / "leftImg8bit" / f"{stem}_leftImg8bit.png")
        _write_image(folder / "gtFine" / f"{stem}_gtFine_instanceIds.png", ids)


def _write_archive(folder: Path) -> None:
    """Write the sample of YOLO's format as a zip archive."""
    folder.mkdir(parents=True)
    shutil.make_archive(str(folder / "data"), "zip", SAMPLES / "yolo")


def _write_nuscenes(folder: Path) -> None:
    """Copy tables of a few samples with small images."""
    shutil.copytree(NUSCENES, folder)


def _write_results(folder: Path) -> None:
    """Write detections in COCO's results format, their annotations, and the log of metrics."""
    _write_masks(folder)
    found = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 15], "score": 0.5}
    _write(folder / RESULTS, [found | {"segmentation": _RUNS}, found | {"segmentation": _RUNS}])
    rows = ({"iteration": n, "total_loss": 1.5, "bbox/AP": 3.0} for n in range(3))
    _write(folder / "metrics.json", "".join(json.dumps(row) + "\n" for row in rows))


def _write_checkpoints(folder: Path) -> None:
    import torch  # takes seconds, and each worker process imports this module

    folder.mkdir(parents=True)
    names = [f"model_{number:07}.pth" for number in (3, 7)]
    for number, name in enumerate(names):
        content = {"model": {"weight": torch.arange(12.0)}, "iteration": number}
        torch.save(content | {"checkpoints": names[: number + 1]}, folder / name)
    _write(folder / "last_checkpoint", names[-1])


def _write_operators(folder: Path) -> None:
    """Write what calls of the operators are drawn from; each damage draws others."""
    _write(folder / OPERATORS, "calls of operators")
