"""`detectron2.checkpoint.catalog`: URLs of pretrained backbones."""

import pytest

import d2ext  # noqa: F401
import detectron2.checkpoint  # noqa: F401
from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils.file_io import PathManager


def test_a_catalog_name_resolves_to_a_url():
    assert ModelCatalog.get("ImageNetPretrained/MSRA/R-50") == (
        "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/MSRA/R-50.pkl"
    )


def test_an_unknown_name_is_an_error():
    with pytest.raises((RuntimeError, KeyError, AssertionError)):
        ModelCatalog.get("ImageNetPretrained/MSRA/R-51")


def test_catalog_addresses_are_opened_by_the_path_manager(monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = PathManager.get_local_path

    def local(path: str, *args: object, **kwargs: object) -> str:
        seen.append(path)
        return real(path, *args, **kwargs) if path.startswith("catalog://") else path

    monkeypatch.setattr(PathManager, "get_local_path", local)
    PathManager.get_local_path("catalog://ImageNetPretrained/MSRA/R-50")
    assert seen[-1].endswith("/ImageNetPretrained/MSRA/R-50.pkl")
