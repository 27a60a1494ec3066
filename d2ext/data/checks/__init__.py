"""What can be wrong with a data set: `document` for files that cannot be used at all."""

from d2ext.data.checks.document import (
    Document,
    Item,
    box_array,
    check,
    check_images,
    examples,
    is_box,
    label,
    parse,
    parse_json,
    read_text,
    with_coco_keys,
)

__all__ = [
    "Document",
    "Item",
    "box_array",
    "check",
    "check_images",
    "examples",
    "is_box",
    "label",
    "parse",
    "parse_json",
    "read_text",
    "with_coco_keys",
]
