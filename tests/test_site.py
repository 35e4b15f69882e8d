"""The site of the docs: it builds without a warning, every link in it leads somewhere, and it has the whole API."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import edgepose

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings"))),
                                 reason="needs mkdocs-material and mkdocstrings, of the extra `docs`")]


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.links += [named[name] for name in ("href", "src") if named.get(name)]
        self.anchors |= {named["id"]} if "id" in named else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", folder], cwd=ROOT,
                             capture_output=True, text=True)
    assert process.returncode == 0, process.stderr  # --strict: a warning is an error
    return folder


def test_every_link_leads_to_a_page_and_an_anchor(site):
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 30
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (parts.fragment and target in pages
                                        and unquote(parts.fragment) not in pages[target].anchors):
                broken.append((str(path.relative_to(site)), link))
    assert not broken


def test_the_api_has_every_public_name_with_its_text(site):
    text = (site / "api/index.html").read_text()
    assert {f"edgepose.{name}" for name in edgepose.__all__} <= Page(text).anchors
    assert "An engine from a file that" in text and "Metres and camera axes" not in text[:2000]


def test_nothing_of_the_site_is_fetched_from_elsewhere(site):
    pages = "".join(path.read_text() for path in site.rglob("*.html"))
    fetched = r'<(?:script|img)[^>]+src="https?:|<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+https?:'
    assert not re.findall(fetched, pages)
