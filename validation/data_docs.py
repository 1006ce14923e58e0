"""Make Great Expectations' Data Docs open without a network, and byte-equal for equal results.

GX links its pages to six content delivery networks. Here every link is either replaced by the vendored file of the
same version (`validation/vendor/`, licences beside them) or removed because the pages do not need it; a link that is
neither is an error, so that a new GX version cannot quietly bring the network back.
"""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime
from importlib.resources import as_file, files
from pathlib import Path

from features.files import atomic_dir

# What a page asks the network for -> the vendored file (None: not needed, the tag goes).
REPLACEMENTS: dict[str, str | None] = {
    "bootstrap/4.3.1/css/bootstrap.min.css": "bootstrap-4.3.1.min.css",
    "bootstrap/4.3.1/js/bootstrap.min.js": "bootstrap-4.3.1.bundle.min.js",  # the bundle brings Popper
    "popper.js/1.12.9/umd/popper.min.js": None,
    "jquery-3.7.1.min.js": "jquery-3.7.1.min.js",
    "bootstrap-table@1.19.1/dist/bootstrap-table.min.css": "bootstrap-table-1.19.1.min.css",
    "bootstrap-table@1.19.1/dist/bootstrap-table.min.js": "bootstrap-table-1.19.1.min.js",
    "bootstrap-table-filter-control.min.js": "bootstrap-table-filter-control-1.19.1.min.js",
    "bootstrap-table-filter-control.min.css": None,
    "bootstrap-table-filter-control.css": None,
    "font-awesome/6.6.0/css/all.min.css": "fontawesome-6.6.0.icons.css",
    "bootstrap-dark@1.1.0/dist/css/bootstrap-prefers-dark.css": "../data-docs.css",  # ours
    "bootstrap-datepicker/1.9.0/css/bootstrap-datepicker.min.css": None,
    "bootstrap-datepicker/1.9.0/js/bootstrap-datepicker.min.js": None,
    "npm/vega@5": None,  # no expectation of ours draws a chart
    "npm/vega-lite@5": None,
    "npm/vega-embed@6": None,
}
IMAGES = ("logo-long.png", "favicon.ico")

_SCRIPT = re.compile(r'<script\s[^>]*src="(https?://[^"]+)"[^>]*>\s*</script>')
_STYLESHEET = re.compile(r'<link\s[^>]*href="(https?://[^"]+)"[^>]*>')
_LOGO = re.compile(r"https://great-expectations-web-assets[^\"')?]+/([\w.-]+)(\?[^\"')]*)?")
_FAVICON = re.compile(r'(?<=href=")[./]*/static/images/(?=favicon\.ico")')  # GX counts the levels wrongly
_CLOCK = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_NEWSLETTER = re.compile(r"<footer>\s*<p>.*?</p>\s*</footer>", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REQUEST = re.compile(r"""(?:src|data-src)=["']https?:|<link\s[^>]*https?:|url\(\s*["']?https?:|@import""")


def write_data_docs(site: Path, docs: Path, as_of: datetime) -> None:
    """Copy GX's `site` to the folder `docs` (replaced as a whole), offline and deterministic.

    `as_of` replaces the clock times that GX writes into its pages.
    """
    with atomic_dir(docs) as target:
        for page in sorted(site.rglob("*.html")):
            place = target / page.relative_to(site)
            place.parent.mkdir(parents=True, exist_ok=True)
            root = os.path.relpath(target, place.parent)
            html = offline_page(page.read_text(encoding="utf-8"), root)
            place.write_text(_CLOCK.sub(f"{as_of:%Y%m%dT%H%M%S.%fZ}", html), encoding="utf-8")
        (target / "static/images").mkdir(parents=True)
        for image in IMAGES:
            shutil.copyfile(site / "static/images" / image, target / "static/images" / image)
        with as_file(files("validation")) as package:
            shutil.copytree(package / "vendor", target / "static/vendor")
            shutil.copyfile(package / "templates/data-docs.css", target / "static/data-docs.css")


def offline_page(html: str, root: str) -> str:
    """A page of Data Docs without requests: `root` is the way from the page to the site's top folder.

    Raises ValueError naming a link that has no vendored replacement.
    """
    html = _SCRIPT.sub(lambda tag: _local(tag, '<script src="{}"></script>', root), html)
    html = _STYLESHEET.sub(lambda tag: _local(tag, '<link rel="stylesheet" href="{}">', root), html)
    html = _LOGO.sub(lambda link: f"{root}/static/images/{_image(link[1])}", html)
    html = _FAVICON.sub(f"{root}/static/images/", html)
    html = _NEWSLETTER.sub("", html)
    html = html.replace('"datepicker"', '"input"').replace("'datepicker'", "'input'")
    if left := _REQUEST.search(html):
        raise ValueError(f"Data Docs would ask the network: {html[left.start() : left.start() + 160]!r}")
    return _number_ids(html)


def _local(tag: re.Match[str], template: str, root: str) -> str:
    url = tag[1]
    for ending, file in REPLACEMENTS.items():
        if url.endswith(ending):
            return template.format(f"{root}/static/vendor/{file}") if file else ""
    raise ValueError(f"Data Docs ask for {url}, which is not vendored (validation/vendor/)")


def _image(name: str) -> str:
    return name if name in IMAGES else IMAGES[0]


def _number_ids(html: str) -> str:
    """Random element ids -> ids numbered in order of appearance."""
    numbers: dict[str, str] = {}
    return _UUID.sub(lambda found: numbers.setdefault(found[0], f"id-{len(numbers):04d}"), html)
