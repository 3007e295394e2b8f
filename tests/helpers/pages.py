"""The README and the pages of the site as text: their links, their code and their commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


class Command(NamedTuple):
    """A command of the package: its verb and what follows it."""

    verb: str
    words: list[str]


def pages() -> list[Path]:
    """Return the pages that people write: not those that the build generates."""
    generated = {DOCS / "_build", DOCS / "models" / "pages"}
    return [path for path in sorted(DOCS.rglob("*.md")) if generated.isdisjoint(path.parents)]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page; the language of a code cell is ``{code-cell}``."""
    found = re.findall(r"^(`{3,})([^\n`]*)\n(.*?)^\1 *$", text, re.DOTALL | re.MULTILINE)
    return [Block((language.split() or [""])[0], content) for _, language, content in found]


def prose(text: str) -> str:
    """Return a page without its fenced blocks, code in lines, comments and front matter."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^(`{3,})[^\n`]*\n.*?^\1 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"(\{\w+\}`[^`\n]*`)|`[^`\n]*`", r"\1", text)


def links(text: str) -> list[str]:
    """Return the targets of the links and pictures of a page, outside code."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def headings(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as MyST and GitHub write them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def commands(text: str) -> Iterator[Command]:
    """Yield the commands ``python -m ppl_vae VERB ...`` in the blocks of a page, without comments and pipes."""
    for block in blocks(text):
        if block.language not in ("", "console", "bash", "sh", "text"):
            continue
        for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
            if match := re.search(r"-m ppl_vae[. ]([a-z]+)\b([^'|>&;]*)", line):
                yield Command(match[1], shlex.split(match[2], comments=True))
