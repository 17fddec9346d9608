"""Sections of the performance page that a benchmark of their own writes, between markers; the page's writer keeps them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "performance.md"

_SECTION = re.compile(r"\n<!-- section ([a-z]+) -->\n.*?<!-- end of section \1 -->\n", re.DOTALL)


def kept(page: str) -> str:
    """Return the marked sections of a page, as they stand behind everything else."""
    return "".join(match.group() for match in _SECTION.finditer(page))


def write(name: str, text: str) -> None:
    """Write one section of the page, in its place or at the end."""
    page = PAGE.read_text(encoding="utf-8")
    section = f"\n<!-- section {name} -->\n{text.strip()}\n<!-- end of section {name} -->\n"
    standing = next((match for match in _SECTION.finditer(page) if match.group(1) == name), None)
    page = page + section if standing is None else page[: standing.start()] + section + page[standing.end() :]
    PAGE.write_text(page, encoding="utf-8")
