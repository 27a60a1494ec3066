"""Files by path, URL or `detectron2://` address."""

from typing import IO, Any

from iopath.common.file_io import HTTPURLHandler, OneDrivePathHandler, PathHandler
from iopath.common.file_io import PathManager as _PathManager

__all__ = ["PathHandler", "PathManager"]


class Detectron2Handler(PathHandler):
    """Path handler of `detectron2://a/b`: Detectron2's public model zoo, downloaded once."""

    PREFIX = "detectron2://"
    S3_DETECTRON2_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        url = self.S3_DETECTRON2_PREFIX + path.removeprefix(self.PREFIX)
        return PathManager.get_local_path(url, force=force, **kwargs)

    def _open(
        self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any
    ) -> IO[str] | IO[bytes]:
        return PathManager.open(self._get_local_path(path), mode, buffering, **kwargs)


# An own instance, so that handlers registered here do not appear in other packages.
PathManager = _PathManager()
for _handler in (HTTPURLHandler(), OneDrivePathHandler(), Detectron2Handler()):
    PathManager.register_handler(_handler)
