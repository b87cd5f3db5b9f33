"""Check the finished site: ``python docs/check_site.py site``.

Every link leads to a page and an anchor that are there, no page loads anything from the network, and each public name
is in the reference with all of its own and inherited members.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util.inventory import InventoryFile

MODULES = (
    "sealwire",
    "sealwire.admin",
    "sealwire.dtls",
    "sealwire.envelope",
    "sealwire.integrations.celery",
    "sealwire.middleware",
    "sealwire.nats",
    "sealwire.testing",
)
OUTSIDE = re.compile(r"(?:@import|url\()[\s\"']*(?:https?:)?//")


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name == "href" and tag == "a" and value:
                self.links.append(value)
            elif name in ("src", "href", "data") and tag != "a" and value:
                self.loaded.append(value)


def broken_links(site: Path) -> Iterator[str]:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme in ("data", "mailto"):
                continue
            if parts.scheme or parts.netloc:
                if link in page.loaded:
                    yield f"{path}: loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{path}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path}: {link} has no such anchor"
    for path in (*site.rglob("*.css"), *site.rglob("*.svg"), *pages):
        if OUTSIDE.search(path.read_text()):
            yield f"{path}: loads something from the network"


def public_names() -> Iterator[str]:
    """Yield each public name, and those of the members of classes."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            value = getattr(module, name)
            yield f"{module_name}.{name}"
            if not inspect.isclass(value):
                continue
            for member, found in inspect.getmembers(
                value, lambda found: inspect.isroutine(found) or is_property(found)
            ):
                if not member.startswith("_") and is_documented(getattr(found, "fget", found)):
                    yield f"{module_name}.{name}.{member}"


def is_property(value: object) -> bool:
    return isinstance(value, property)


def is_documented(value: object) -> bool:
    return bool(inspect.getdoc(value)) and str(getattr(value, "__module__", "")).startswith("sealwire")


def missing_names(site: Path) -> Iterator[str]:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {name for kind, entries in inventory.data.items() if kind.startswith("py:") for name in entries}
    for name in public_names():
        if name not in documented:
            yield f"{name} is not in the reference: add it to a page in docs/reference/api"


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    problems = sorted({*broken_links(site), *missing_names(site)})
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
