"""The way from the command to the first batch at COCO's size, compared with Detectron2's.

Data like COCO's train2017 are made up: tiny images, polygons and crowds in one JSON file. d2ext
detects the format, reads, cleans and checks them and resolves `auto` values; Detectron2 loads and
serialises them without a check. Run as a script, it takes one of the two ways.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from benchmarks.providers import ROOT
from benchmarks.registry import register_benchmark

IMAGES, OBJECTS, CLASSES = 118_287, 860_001, 80  # of train2017
WIDTH, HEIGHT = 64, 48  # pixels; the time to decode larger images is another benchmark's
GOALS = "1.5x the seconds, 1.2x the memory, 20 MiB per worker"
CONFIG = "configs/rcnn/mask_rcnn_r50_fpn_1x.yaml"
WORKERS = 2
_PAUSE = 0.2  # seconds between two looks at the memory
_LONGEST = 1200  # seconds


def report(official: str | None, images: int, objects: int, folder: Path | None) -> None:
    """Print seconds, CPU seconds, peak memory and memory per worker of both ways.

    Args:
        official: folder that holds the official `detectron2`; None: the bundled one is the peer.
        images, objects: how many to make up.
        folder: where the data are kept for the next time; None: they are deleted.
    """
    print(f"\nfrom the command to the first batch, {images} images, {objects} objects  [{GOALS}]")
    with tempfile.TemporaryDirectory() as temporary:
        data = folder or Path(temporary)
        if not (data / "train.json").exists():
            write_data(data, images, objects)
        cache = Path(temporary, "cache")
        found = {"Detectron2": measured("peer", data, cache, official)}
        found["d2ext"] = measured("own", data, cache, None)
        found["d2ext, images known"] = measured("own", data, cache, None)
    peer = found["Detectron2"]
    for name, costs in found.items():
        line = f"  {name:22} {costs['seconds']:7.1f} s {costs['seconds'] / peer['seconds']:5.2f}x"
        line += f" {costs['cpu']:7.1f} s of CPU {costs['cpu'] / peer['cpu']:5.2f}x"
        line += f" {costs['memory']:7.0f} MiB {costs['memory'] / peer['memory']:5.2f}x"
        print(f"{line} {costs['worker']:6.0f} MiB per worker, {costs['parses']} parses")


def write_data(folder: Path, images: int, objects: int) -> None:
    """Write `train.json` and `images/`: blobs of colour that no other image has, and ellipses."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(1, images + 1):
        blobs = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(blobs, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / _name(number)), picture)
    listed = (
        {"id": n, "file_name": _name(n), "width": WIDTH, "height": HEIGHT, "license": 1}
        for n in range(1, images + 1)
    )
    classes = [{"id": n, "name": f"class {n}", "supercategory": "any"} for n in range(1, 81)]
    with (folder / "train.json").open("w", encoding="ascii") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        file.write(",".join(map(json.dumps, listed)))
        file.write(f'], "categories": {json.dumps(classes)}, "annotations": [')
        for number, item in enumerate(_annotations(rng, images, objects)):
            file.write("," * bool(number) + json.dumps(item))
        file.write("]}")


def _annotations(rng: np.random.Generator, images: int, objects: int) -> Iterator[dict[str, Any]]:
    """Yield ellipses of 8 to 40 corners, and one crowd region in a hundred."""
    owners = np.sort(rng.integers(1, images + 1, objects)).tolist()
    labels = rng.integers(1, CLASSES + 1, objects).tolist()
    for number, (image, label) in enumerate(zip(owners, labels, strict=True), start=1):
        radius = rng.uniform(2, 16, 2)
        centre = rng.uniform(radius, (WIDTH, HEIGHT) - radius)
        angles = np.linspace(0, 2 * np.pi, rng.integers(8, 41), endpoint=False)
        points = centre + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
        low, high = points.min(0), points.max(0)
        item = {
            "id": number,
            "image_id": image,
            "category_id": label,
            "iscrowd": int(number % 100 == 0),
            "area": round(float(np.pi * radius.prod()), 2),
            "bbox": [round(v, 2) for v in (*low.tolist(), *(high - low).tolist())],
        }
        if item["iscrowd"]:
            counts = [0, WIDTH * HEIGHT // 2, WIDTH * HEIGHT // 2]
            yield {**item, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}}
        else:
            yield {**item, "segmentation": [points.round(2).reshape(-1).tolist()]}


def _name(number: int) -> str:
    return f"{number:012d}.jpg"


def measured(way: str, data: Path, cache: Path, official: str | None) -> dict[str, float]:
    """Run one way in a process of its own and add the peak memory of it and its workers, in MiB."""
    search = [str(ROOT), str(ROOT / "tools"), *([official] if official else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search), "D2EXT_CACHE": str(cache)}
    command = [sys.executable, __file__, way, str(data)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        peak, start = 0.0, time.monotonic()
        while child.poll() is None and time.monotonic() - start < _LONGEST:
            peak = max(peak, _tree_memory(child.pid))
            time.sleep(_PAUSE)
        child.kill()
        output = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise RuntimeError(f"{way} ended with status {child.returncode}:\n{output}")
    return {**json.loads(output.splitlines()[-1]), "memory": peak}


def _tree_memory(pid: int) -> float:
    """Return the proportional set size of a process and its children, in MiB."""
    return sum(_rollup(one, ("Pss:",)) for one in (pid, *_children(pid)))


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []  # it has ended
    return [int(word) for word in text.split()]


def _rollup(pid: int, fields: tuple[str, ...]) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(fields)) / 1024


def _take(way: Callable[[Path], Any], data: Path) -> dict[str, float]:
    """Take a way to the first batch; count how often the JSON file is parsed."""
    size, parses = (data / "train.json").stat().st_size, 0
    by_python, by_msgspec = json.JSONDecoder.decode, msgspec.json.decode

    def counted(self: json.JSONDecoder, text: str, *more: Any) -> Any:
        nonlocal parses
        parses += len(text) == size  # ASCII, as `write_data` writes it
        return by_python(self, text, *more)

    def counted_bytes(content: bytes) -> Any:
        nonlocal parses
        parses += len(content) == size
        return by_msgspec(content)

    json.JSONDecoder.decode = counted  # type: ignore[method-assign]
    msgspec.json.decode = counted_bytes
    start, cpu = time.perf_counter(), _cpu_seconds()
    batches = iter(way(data))
    next(batches)
    costs = {"seconds": time.perf_counter() - start, "cpu": _cpu_seconds() - cpu}
    own = [_rollup(worker, ("Private_",)) for worker in _children(os.getpid())]
    return {**costs, "worker": max(own, default=0.0), "parses": parses}


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that have ended."""
    return sum(os.times()[:4])


def _own(data: Path) -> Any:
    from d2ext.cli.train import argument_parser
    from d2ext.data import build_train_loader
    from d2ext.engine.prepare import prepare

    with tempfile.TemporaryDirectory() as output:
        flags = ["--train", f"{data / 'train.json'}:{data / 'images'}", "MODEL.DEVICE", "cpu"]
        options = ["DATALOADER.NUM_WORKERS", str(WORKERS), "SOLVER.IMS_PER_BATCH", "2"]
        options += ["INPUT.MIN_SIZE_TRAIN", str([HEIGHT])]  # pixels of batches are not the data's
        options += ["MODEL.WEIGHTS", "", "OUTPUT_DIR", output]  # neither way builds its model
        command = ["--config-file", CONFIG, *flags, *options]
        run = prepare(argument_parser().parse_args(command))
    for note in run.notes:
        print(note)
    return build_train_loader(run.cfg)


def _peer(data: Path) -> Any:
    from detectron2.config import get_cfg
    from detectron2.data import build_detection_train_loader
    from detectron2.data.datasets import register_coco_instances

    register_coco_instances("made_up", {}, str(data / "train.json"), str(data / "images"))
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.MODEL.MASK_ON = ("made_up",), True
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = WORKERS, 2
    cfg.INPUT.MIN_SIZE_TRAIN = (HEIGHT,)
    return build_detection_train_loader(cfg)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--official", metavar="FOLDER", help="holds the official detectron2")
    parser.add_argument("--images", type=int, default=IMAGES, help="images to make up")
    parser.add_argument("--objects", type=int, default=OBJECTS, help="objects to make up")
    parser.add_argument("--folder", type=Path, help="keeps the made-up data for the next time")


def _run(args: argparse.Namespace) -> None:
    report(args.official, args.images, args.objects, args.folder)


register_benchmark(
    "data", "time and memory to the first batch at COCO's size", _add_arguments, _run
)

if __name__ == "__main__":
    import d2ext  # noqa: F401

    arguments = argparse.ArgumentParser()
    arguments.add_argument("way", choices=("own", "peer"))
    arguments.add_argument("data", type=Path)
    chosen = arguments.parse_args()
    print(json.dumps(_take({"own": _own, "peer": _peer}[chosen.way], chosen.data)))
