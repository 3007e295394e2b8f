"""Check the links within a built site: every page, picture and heading that a page points to is there.

python docs/check_links.py docs/_build/html
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the names that links to it may use."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the links and the names of one element."""
        for key, value in attrs:
            if value and (key == "id" or (key == "name" and tag == "a")):
                self.names.add(value)
            elif value and key in ("href", "src") and not value.startswith(("data:", "mailto:", "javascript:")):
                self.links.add(value)


def broken_links(folder: Path) -> list[str]:
    """Return a line for each link within the site that leads nowhere; links to other sites are not followed."""
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            name = unquote(parts.fragment)
            if not target.exists():
                broken.append(f"{path.relative_to(folder.resolve())}: {link}: there is no such file")
            elif name and target in pages and name not in pages[target].names:
                broken.append(f"{path.relative_to(folder.resolve())}: {link}: the page has no such heading")
    return broken


def main() -> int:
    """Print the broken links of a built site; return 1 if there are any."""
    folder = Path(sys.argv[1])
    broken = broken_links(folder)
    print("\n".join(broken) or f"{len(list(folder.rglob('*.html')))} pages in {folder}, no broken link")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
