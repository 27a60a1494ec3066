"""Pages in headless Chromium."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


def assert_fits(path: Path, tmp_path: Path, width: int) -> None:
    """The page in a frame of that width: no wider than it, and every picture loaded."""
    probe = tmp_path / "probe.html"
    probe.write_text(
        f'<iframe id="f" src="{path.as_uri()}" style="width:{width}px;height:4000px"></iframe>'
        "<script>const f = document.getElementById('f'); f.onload = () => {"
        "const d = f.contentDocument;"
        "const broken = [...d.images].filter(i => i.complete && !i.naturalWidth).length;"
        "document.title = [d.documentElement.scrollWidth, d.images.length, broken].join(' ');};"
        "</script>"
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--allow-file-access-from-files", "--virtual-time-budget=8000", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = done.stdout.partition("<title>")[2].partition("</title>")[0]
    scroll_width, images, broken = (int(word) for word in title.split())
    assert scroll_width <= width
    assert images > 0
    assert broken == 0
