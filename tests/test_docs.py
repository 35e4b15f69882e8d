"""The README and the pages of docs: short enough, and every link leads to something."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
         *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN_BY_PROGRAMS = ("results.md",)  # benchmarks/zoo_table.py


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        if heading:
            assert heading in anchors(target), f"{page.name} links to {link}; there are {sorted(anchors(target))}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in WRITTEN_BY_PROGRAMS],
                         ids=lambda page: page.name)
def test_the_prose_of_a_page_ends_at_120_columns(page):
    blocks = re.split(r"^```.*$", page.read_text(), flags=re.MULTILINE)[::2]  # without code
    prose = [line for block in blocks for line in block.splitlines() if not line.startswith(("|", "!", "    "))]
    assert not [line for line in prose if len(line) > 120]


def test_the_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_readme_shows_one_command_that_runs_the_tests():
    block = (ROOT / "README.md").read_text().split("<!-- tests -->\n```bash\n")[1].split("\n```")[0]
    assert "-m pytest -q" in block and block.count("\n") == 0  # .ci/run runs this line
