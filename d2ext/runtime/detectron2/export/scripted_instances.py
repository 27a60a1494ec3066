"""`Instances` for TorchScript, which needs the name and type of every field.

The source of a class with given fields and the methods of `Instances` that models use is generated.
"""

import contextlib
import itertools
import linecache
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._sources import fake_range

from detectron2.structures import Instances

_CLASS = '''
class {name}:
    def __init__(self, image_size: tuple[int, int]{parameters}):
        self.image_size = image_size
        self._field_names = {fields}
{of_init}

    def has(self, name: str) -> bool:
{of_has}
        return False

    def __len__(self) -> int:
{of_len}
        raise NotImplementedError("Instances without fields have no length.")

    def to(self, device: torch.device) -> "{name}":
        new = {name}(self.image_size{nothing})
{of_to}
        return new

    def __getitem__(self, item) -> "{name}":
        new = {name}(self.image_size{nothing})
{of_getitem}
        return new

    def cat(self, instances: list["{name}"]) -> "{name}":
        """All of a list, which `self` only lends its class to."""
        new = {name}(instances[0].image_size{nothing})
{of_cat}
        return new

    def get_fields(self) -> dict[str, Tensor]:
        """The fields that are set, boxes and masks as their tensors."""
        found: dict[str, Tensor] = {{}}
{of_get_fields}
        return found
{properties}
'''

# Code of the class's methods per field.
_OF_FIELD = {
    "of_init": "self._{field} = {field}",
    "of_has": """
if name == "{field}":
    return self._{field} is not None""",
    "of_len": """
{field} = self._{field}
if {field} is not None:
    return len({field})""",
    "of_to": """
{field} = self._{field}
if {field} is not None:
    new._{field} = {field}.to(device)""",
    "of_getitem": """
{field} = self._{field}
if {field} is not None:
    new._{field} = {field}[item]""",
    "of_cat": """
all_{field}: list[{type}] = []
for other in instances:
    {field} = other._{field}
    if {field} is not None:
        all_{field}.append({field})
if len(all_{field}) > 0:
    new._{field} = {cat}(all_{field})""",
    "of_get_fields": """
{field} = self._{field}
if {field} is not None:
    found["{field}"] = {field}{as_tensor}""",
}

_PROPERTY = """
    @property
    def {field}(self) -> {type}:
        value = self._{field}
        if value is None:
            raise AttributeError("Cannot find field '{field}' in the given Instances!")
        return value

    @{field}.setter
    def {field}(self, value: {type}) -> None:
        self._{field} = value
"""

_numbers = itertools.count()  # TorchScript never releases the name of a class


def _source(name: str, fields: dict[str, type]) -> str:
    values = [
        {
            "field": field,
            "type": kind.__name__,
            "as_tensor": "" if kind is Tensor else ".tensor",
            "cat": "torch.cat" if kind is Tensor else f"all_{field}[0].cat",
        }
        for field, kind in fields.items()
    ]
    parameters = "".join(", {field}: {type} | None = None".format(**v) for v in values)
    nothing = ", None" * len(fields)  # default values are not available inside the class yet
    parts = {part: _lines(text, values) for part, text in _OF_FIELD.items()}
    properties = "".join(_PROPERTY.format(**v) for v in values)
    return _CLASS.format(
        name=name,
        fields=list(fields),
        parameters=parameters,
        nothing=nothing,
        properties=properties,
        **parts,
    )


def _lines(template: str, values: list[dict[str, str]]) -> str:
    lines = "\n".join(template.strip().format(**v) for v in values).splitlines()
    return "\n".join(f"        {line}" for line in lines)


def _from_instances(cls: type, instances: Instances) -> Any:
    """Convert `Instances` to the class of the same fields."""
    return cls(instances.image_size, **instances.get_fields())


@contextlib.contextmanager
def _scripted_class(fields: dict[str, type]) -> Iterator[type]:
    """Yield the compiled class; its source can be read within the context."""
    name = f"ScriptedInstances{next(_numbers)}"
    module = ModuleType(f"detectron2.export.{name}")
    module.__file__ = f"<{module.__name__}>"
    names: dict[str, Any] = vars(module)
    names.update({kind.__name__: kind for kind in fields.values()}, torch=torch, Tensor=Tensor)
    source = _source(name, fields)
    # TorchScript reads the source of what it compiles, found by module and file.
    linecache.cache[module.__file__] = (len(source), None, source.splitlines(True), module.__file__)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, module.__file__, "exec"), names)
        cls = names[name]
        torch.jit._script._recursive_compile_class(cls, fake_range())
        cls.from_instances = classmethod(_from_instances)
        yield cls
    finally:
        del sys.modules[module.__name__], linecache.cache[module.__file__]


@contextlib.contextmanager
def patch_instances(fields: dict[str, type]) -> Iterator[type]:
    """Let TorchScript use a class with the given fields as `Instances` within the context.

    Args:
        fields: types, e.g. `Tensor` or `Boxes`, by name. No other fields can be used.

    Yields:
        The class; `from_instances` converts objects of `Instances`, which a scripted model does
        not accept.
    """
    if "image_size" in fields:
        raise ValueError("image_size is no field of Instances")
    with _scripted_class(fields) as cls:
        _forget_compiled()
        Instances._jit_override_qualname = torch._jit_internal._qualified_name(cls)  # type: ignore[attr-defined]
        try:
            yield cls
        finally:
            del Instances._jit_override_qualname  # type: ignore[attr-defined]
            _forget_compiled()


def _forget_compiled() -> None:
    """Clear the compilation caches: code compiled with another class must be compiled again."""
    torch.jit._recursive.concrete_type_store.type_store.clear()
    torch.jit._state._jit_caching_layer.clear()
