"""Pages of the site that do not lie in docs/: the README as the first page, the API out of the docstrings, and every
file of the source that a page links to, with the links between them."""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def place_on_site(path: str) -> str:
    """The site's path of a file or folder of the checkout: "docs/cpp.md" -> "cpp.md"."""
    if path == "README.md":
        return "index.md"
    if (ROOT / path).is_dir():
        path = f"{path}/index.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"


def links_of(text: str, path: str) -> set[str]:
    """The files and folders of the checkout that a Markdown file at `path` links to."""
    targets = {posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for _, link, _ in LINK.findall(text)
               if ":" not in link}
    return {target for target in targets if (ROOT / target).exists()}


def with_links_of_the_site(text: str, path: str) -> str:
    """A Markdown file at `path` whose links lead to the site's pages."""
    here = posixpath.dirname(place_on_site(path))

    def changed(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[2]))
        if ":" in found[2] or not (ROOT / target).exists():
            return found[0]
        return found[1] + posixpath.relpath(place_on_site(target), here or ".") + found[3]

    return LINK.sub(changed, text)


def public_names() -> list[str]:
    """edgepose.__all__, read without importing it."""
    for node in ast.parse((ROOT / "edgepose/__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError("edgepose/__init__.py has no __all__")


def api_page() -> str:
    names = "\n\n".join(f"::: edgepose.{name}" for name in public_names())
    return f"# API\n\nThe public names of `edgepose`.\n\n{names}"


def folder_page(path: str) -> str:
    """A list of what lies in a folder: its Markdown files, or all of them where there are none."""
    files = [file for file in sorted((ROOT / path).iterdir()) if file.is_file() and file.name != "__init__.py"]
    shown = [file for file in files if file.suffix == ".md"] or files
    return f"# {path}\n\n" + "\n".join(f"- [{file.stem if file.suffix == '.md' else file.name}]({file.name})"
                                       for file in shown)


def on_files(files: Files, config: Any) -> Files:
    """Adds the README, the API and all that is linked to, from page to page."""
    waiting = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "THIRD_PARTY_NOTICES.md",
               *(f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        text = None
        if (ROOT / path).is_dir():
            text = folder_page(path)
        elif path.endswith(".md"):
            text = (ROOT / path).read_text()
        if text is not None:
            found = links_of(text, f"{path}/index.md" if (ROOT / path).is_dir() else path)
            waiting += sorted(found - seen)
            seen |= found
        if path.startswith("docs/"):
            continue
        place = place_on_site(path)
        files.append(File.generated(config, place, content=with_links_of_the_site(text, path))
                     if text is not None and not (ROOT / path).is_dir() else
                     File.generated(config, place, content=text) if text is not None else
                     File.generated(config, place, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "api.md", content=api_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Changes the links of a page of docs/."""
    if page.file.generated_by:
        return markdown
    return with_links_of_the_site(markdown, f"docs/{page.file.src_uri}")
