"""Hooks of the documentation site: pages that are made from the code and from other files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Add the home page, the projects' pages, the faults and the config keys."""
    for path, text in _generated():
        files.append(File.generated(config, path, content=text))
    return files


def _generated() -> Iterator[tuple[str, str]]:
    yield "index.md", _home((ROOT / "README.md").read_text(encoding="utf-8"))
    for readme in sorted(ROOT.glob("projects/*/README.md")):
        yield f"models/{readme.parent.name}.md", _without_links(readme.read_text(encoding="utf-8"))
    yield "checks.md", _checks()
    yield "config_keys.md", _config_keys()


def _home(text: str) -> str:
    """Turn the README's links to files of the repository into links of the site."""
    text = re.sub(r"\]\(projects/(\w+)/README\.md\)", r"](models/\1.md)", text)
    text = text.replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|[\w/]+\.(?:md|jpg|png))[^)]*\)", r"\1", text)


def _without_links(text: str) -> str:
    """Leave only the text of links to files that the site does not have."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)


def _checks() -> str:
    from d2ext.data.checks.kinds import KINDS

    lines = [
        "# The check, fault by fault",
        "",
        "`d2ext-check-data my/data` looks for these, and so does a training before it starts.",
        "Errors make training fail or be wrong, warnings make it worse, notes are worth knowing.",
        "",
        "| code | severity | what is wrong | what helps | what `--fix` does |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS.values():
        cells = (f"`{kind.code}`", kind.severity, kind.summary, kind.remedy, kind.fix)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _config_keys() -> str:
    from d2ext.config.reference import all_keys, as_table

    parts = [
        "# Config keys",
        "",
        "`d2ext-config --keys PATTERN` prints the same. Any key can be given on the command line: "
        "`d2ext-train --train my/data SOLVER.MAX_EPOCHS 24`.",
    ]
    keys = all_keys()
    for source in dict.fromkeys(("d2ext", "detectron2", *(info.source for info in keys))):
        heading = {"d2ext": "Of d2ext", "detectron2": "Of Detectron2"}
        parts += ["", f"## {heading.get(source, f'Of the project {source}')}", ""]
        parts.append(as_table([info for info in keys if info.source == source]))
    return "\n".join(parts) + "\n"
