"""Look at a page in a headless Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PHONE = 360

# A browser's own window is never narrower than some 500 pixels, so the page stands in a frame.
PROBE = """<!doctype html><meta charset="utf-8"><iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}">
</iframe><pre id="found"></pre><script>
const frame = document.querySelector("iframe")
frame.onload = () => {{
  const page = frame.contentDocument
  page.querySelectorAll("details").forEach(part => part.open = true)
  const wide = [...page.body.querySelectorAll("*")].filter(
    part => !part.closest(".scroll") && part.getBoundingClientRect().right > {width} + 0.5)
  document.querySelector("#found").textContent = JSON.stringify({{
    width: page.documentElement.scrollWidth, seen: frame.contentWindow.innerWidth,
    wide: wide.map(part => part.outerHTML.slice(0, 120)),
    broken: [...page.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.alt),
    pictures: page.images.length,
  }})
}}
</script>"""


def look(page: str, folder: Path, width: int = PHONE) -> tuple[dict[str, Any], list[str]]:
    """What a frame `width` pixels wide shows of a page, every fold of it opened; and what the console said."""
    path = folder / "probe.html"
    path.write_text(PROBE.format(page=html.escape(page), width=width), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    flags += [f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900"]
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=600, check=True
    )
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
