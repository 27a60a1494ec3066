"""`catalog://` addresses of pretrained backbones."""

from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager


class ModelCatalog:
    """The catalog of the backbones that Caffe2 Detectron was trained from."""

    S3_C2_DETECTRON_PREFIX = "https://dl.fbaipublicfiles.com/detectron"
    C2_IMAGENET_MODELS = {  # noqa: RUF012
        "MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
        "MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
        "FAIR/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
        "FAIR/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
        "FAIR/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
        "FAIR/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
        "FAIR/X-152-32x8d-IN5k": "ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl",
    }
    _IMAGENET = "ImageNetPretrained/"

    @classmethod
    def get(cls, name: str) -> str:
        """Return the URL of a model, e.g. of "ImageNetPretrained/MSRA/R-50".

        Raises:
            RuntimeError: the name is unknown.
        """
        path = cls.C2_IMAGENET_MODELS.get(name.removeprefix(cls._IMAGENET))
        if path is None or not name.startswith(cls._IMAGENET):
            known = ", ".join(cls._IMAGENET + model for model in cls.C2_IMAGENET_MODELS)
            raise RuntimeError(f"No model '{name}' in the catalog: {known} are there.")
        return f"{cls.S3_C2_DETECTRON_PREFIX}/{path}"


class ModelCatalogHandler(PathHandler):
    """A path handler for "catalog://" followed by a name of `ModelCatalog`."""

    PREFIX = "catalog://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        url = ModelCatalog.get(path.removeprefix(self.PREFIX))
        return PathManager.get_local_path(url, force=force, **kwargs)

    def _open(
        self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any
    ) -> IO[str] | IO[bytes]:
        return PathManager.open(self._get_local_path(path), mode, buffering, **kwargs)


PathManager.register_handler(ModelCatalogHandler())
