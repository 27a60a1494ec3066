import pytest
import torch

from detectron2.utils.develop import create_dummy_class, create_dummy_func
from detectron2.utils.torch_version_utils import min_torch_version


def test_a_dummy_object_names_the_missing_dependency_when_used():
    kind = create_dummy_class("Thing", "somepackage", "Install it.")
    with pytest.raises(ImportError, match=r"somepackage.*Thing.*Install it"):
        kind()
    with pytest.raises(ImportError, match="somepackage"):
        kind.anything  # noqa: B018
    function = create_dummy_func("act", ["one", "two"])
    with pytest.raises(ImportError, match=r"one.*two.*act"):
        function(1, x=2)


def test_versions_are_compared_as_numbers():
    assert min_torch_version("1.9")
    assert min_torch_version(torch.__version__.split("+")[0])
    assert not min_torch_version("1000.0")
