"""Names of data sets are free again after a test."""

from collections.abc import Iterator

import pytest

from tests.helpers.catalog import free_names


@pytest.fixture(autouse=True)
def _free_names(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    with free_names():
        yield
