"""XML files from strangers: any encoding, no entities."""

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from d2ext.data.formats.text_files import decode_file
from d2ext.files import read_regular

_DECLARED = re.compile(rb"""\s*<\?xml[^>]*encoding=["']([\w.-]+)["']""")


def parse_xml(file: Path, encodings: Counter[str] | None = None) -> ElementTree.Element:
    """Parse an XML file and return its root.

    Args:
        encodings: see `d2ext.data.formats.text_files.read_text`.
    Raises:
        expat.ExpatError: broken XML.
        DataError: it is no text.
        ValueError: it declares entities, which annotations never need.
    """
    builder = ElementTree.TreeBuilder()
    content = read_regular(file)
    if not content.isascii() or b"\0" in content:
        declared = _DECLARED.match(content)
        name = declared.group(1).decode("ascii") if declared else ""
        content = decode_file(file, content, encodings, declared=name).encode()
    parser = expat.ParserCreate("utf-8")  # whatever the file declares
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity
    parser.buffer_text = True
    parser.Parse(content, True)
    return builder.close()


def _refuse_entity(*_: object) -> None:
    raise ValueError("declares entities, which annotations don't need")
