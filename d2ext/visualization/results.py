"""Pictures of evaluation results, by the name of the file that the evaluator wrote."""

from collections.abc import Callable
from pathlib import Path

from d2ext.registry import ExtensionRegistry

DrawResults = Callable[[str, Path, Path, int], None]

_DRAWERS: ExtensionRegistry[str, DrawResults] = ExtensionRegistry("picture of results")


def register_results_picture(file_name: str, draw: DrawResults) -> None:
    """Register how a file of evaluation results is drawn after an evaluation.

    A project calls it when it is imported. Where an evaluator writes several known files, the one
    registered last is drawn.

    Args:
        file_name: in the evaluator's folder, e.g. "coco_instances_results.json".
        draw: called with the name of the data set, the path of the results, the path of the
            picture to write (.jpg) and the maximum number of images in it.
    Raises:
        ValueError: the file name is taken.
    """
    _DRAWERS.register(file_name, draw)


def save_results_picture(dataset_name: str, folder: Path, picture: Path, count: int) -> None:
    """Draw the results of an evaluation; write nothing if none of its files is known.

    Args:
        folder: of the evaluator's files.
        picture: .jpg to write.
        count: maximum number of images in the picture.
    """
    for name in reversed(list(_DRAWERS)):
        if (folder / name).is_file():
            _DRAWERS.get(name, "results")(dataset_name, folder / name, picture, count)
            return
