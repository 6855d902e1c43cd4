"""Open the built site from the disk in headless Chromium: it asks the network for nothing, and its search finds.

    python docs/check_site.py SITE

Exit code 1, with what is wrong, where a page names a script, a style or a picture of another place, is wider than a
narrow screen, logs an error, or where the search stays empty.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from edgekit.runtimes._onnxruntime_web.browser import Browser

_LOADED = re.compile(r"""<(?:script|img|iframe|link(?=[^>]*stylesheet))[^>]*(?:src|href)=["']?(https?:[^"'> ]+)""")
_SEARCH = """(async () => {
  const root = document.documentElement;
  // Styles and pictures may still be on their way from a slow disk: a page that is too wide stays so.
  for (let i = 0; i < 50 && (document.readyState !== "complete" || root.scrollWidth > window.innerWidth); i++)
    await new Promise((later) => setTimeout(later, 100));
  const wide = root.scrollWidth;
  document.querySelector("[for=__search]").click();
  const field = document.querySelector("input.md-search__input");
  field.focus();
  field.value = "roofline";
  field.dispatchEvent(new Event("keyup"));
  for (let i = 0; i < 50 && !document.querySelector(".md-search-result__item"); i++)
    await new Promise((later) => setTimeout(later, 200));
  const found = [...document.querySelectorAll(".md-search-result__item h1")].map((item) => item.textContent);
  return { found, wide, window: window.innerWidth };
})()"""


def main(site: Path) -> list[str]:
    """What is wrong with a site, a line each."""
    pages = sorted(site.rglob("*.html"))
    wrong = [f"{page}: loads {url}" for page in pages for url in _LOADED.findall(page.read_text(encoding="utf-8"))]
    browser = Browser(["--window-size=500,900"])
    try:
        page = browser.page((site / "index.html").resolve().as_uri())
        time.sleep(0.5)  # the page's own script begins with its search
        told: dict[str, Any] = page.evaluate(_SEARCH, "search", timeout_s=30)
        if "How it is measured, and what the numbers mean" not in told["found"]:
            wrong.append(f"the search for 'roofline' finds {json.dumps(told['found'])}")
        if told["wide"] > told["window"]:
            wrong.append(f"the first page is {told['wide']} wide on a window of {told['window']}")
        wrong += [f"the first page logs: {line}" for line in browser.console()]
    finally:
        browser.close()
    return wrong


if __name__ == "__main__":
    problems = main(Path(sys.argv[1]))
    print("\n".join(problems) or "the site works from the disk")
    sys.exit(int(bool(problems)))
