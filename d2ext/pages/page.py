"""Build an HTML page in one file: pictures embedded, no scripts, fits narrow screens."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from d2ext.files import replacing

_STYLE = """
:root { color-scheme: light; --ink: #26262a; --faint: #6b6b72; --line: #e4e4e0; --paper: #fafaf8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .4rem 0; }
.faint, figcaption { color: var(--faint); font-size: .85rem; }
.grid { display: grid; gap: .75rem; margin: .5rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--cell)), 1fr)); }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 6rem; }
.error { color: #b3261e; }
.warning { color: #8a5a00; }
.note { color: var(--faint); }
pre { font: .85rem/1.4 ui-monospace, monospace; white-space: pre-wrap; }
"""


class Page:
    """Collects blocks of HTML; every text is escaped.

    Args:
        title: of the page and its first heading.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[str] = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str, level: int = 2) -> None:
        self._blocks.append(f"<h{level}>{escape(text)}</h{level}>")

    def text(self, text: str, kind: str = "") -> None:
        """Add a paragraph; `kind` is a class of the style: faint, error, warning or note."""
        self._blocks.append(f'<p class="{escape(kind)}">{escape(text)}</p>')

    def code(self, text: str) -> None:
        self._blocks.append(f"<pre>{escape(text)}</pre>")

    def items(self, lines: Iterable[str]) -> None:
        found = "".join(f"<li>{escape(line)}</li>" for line in lines)
        self._blocks.append(f"<ul>{found}</ul>")

    def table(self, head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
        """Add a table: first column left-aligned, others right; scrolls if it is too wide."""
        top = "".join(f"<th>{escape(str(cell))}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        self._blocks.append(f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>')

    def charts(self, charts: Iterable[tuple[bytes, str]]) -> None:
        """Add SVG charts side by side, each with a text alternative."""
        cells = [_figure(_data_url(svg, "image/svg+xml"), text, "") for svg, text in charts]
        self._grid(cells, "20rem")

    def pictures(self, pictures: Iterable[tuple[np.ndarray, str]], cell: str = "11rem") -> None:
        """Add (H, W, 3) RGB uint8 pictures side by side, with captions below."""
        cells = [_figure(_data_url(_jpeg(p), "image/jpeg"), text, text) for p, text in pictures]
        self._grid(cells, cell)

    def _grid(self, cells: list[str], cell: str) -> None:
        self._blocks.append(f'<div class="grid" style="--cell: {cell}">{"".join(cells)}</div>')

    def write(self, path: str | Path) -> None:
        """Write the page.

        Raises:
            OutputError: `path` cannot be written.
        """
        head = (
            '<meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style>"
        )
        body = "\n".join(self._blocks)
        html = f'<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>'
        with replacing(path) as part:
            part.write_text(f"<!doctype html>\n{html}\n", encoding="utf-8")


def _figure(url: str, alternative: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img loading="lazy" src="{url}" alt="{escape(alternative)}">{below}</figure>'


def _jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=85)
    return content.getvalue()


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
