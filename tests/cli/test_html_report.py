"""`sealwire doctor --html`: one page for people, in which nothing from a file is more than text."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import sealwire.cli.html_report
from support.certificates import DAY, make, make_ca
from support.commands import Configured

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STYLE = Path(sealwire.cli.html_report.__file__).with_name("html_report.css").read_text()


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def written(place: Configured, role: str = "server", *, status: int = 0) -> str:
    output = place.run("doctor", "--config", place.config(role), "--html", "report.html", status=status).stdout
    assert "wrote report.html" in output
    return Path("report.html").read_text()


def hostile(place: Configured, tag: str) -> None:
    """Put a tag wherever a file has a name."""
    ca = make_ca(f"CA {tag}"[:64], end=5 * DAY)
    own = make("localhost", common_name=tag[:64], issuer=ca, end=2 * DAY, start=-88 * DAY)
    place.replace("server", "server.key", own.key_pem)
    place.replace("server", "server.pem", own.pem)
    place.replace("server", "ca.pem", ca.pem)
    path = Path(place.config("server"))
    text = path.read_text().replace('crl = "crl.pem"\n', "")
    path.write_text(text.replace('"dns:client.example"', json.dumps(f"uri:x:{tag}")) + 'service = "orders"\n')
    place.run("keys", "new", "--file", "server/keyring.toml", "--id", tag[:60])
    Path("server", f"{tag.replace('/', '')}.toml").write_text(path.read_text())


def test_a_good_configuration(place: Configured) -> None:
    content = written(place)
    page = Page(content)
    assert "Nothing is wrong." in page.text
    for text in ("dns:localhost", "revocation list", "key for dns:client.example", "max_frame", "16,777,216 bytes"):
        assert text in page.text
    assert "(changed)" not in page.text
    assert "Certificates and keys" in page.text


def test_findings_and_their_commands(place: Configured) -> None:
    place.leaf("server", "localhost", days=5)
    text = Path(place.config("server")).read_text()
    Path(place.config("server")).write_text(f"{text}[limits]\nmax_frame = 1048576\n")
    content = place.run("doctor", "--config", place.config("server"), "--warn", "14", "--html", "r.html", status=1)
    assert "wrote r.html (mode 0644)" in content.stdout
    page = Path("r.html").read_text()
    assert "1 warning" in page
    assert f"<code>sealwire certs request server --as server --dir {place.directory}/server</code>" in page
    assert "1,048,576 bytes (changed)" in page
    assert re.search("until .*, [45] days: soon", page)


def test_a_configuration_that_cannot_be_loaded(place: Configured) -> None:
    Path("server/server.key").unlink()
    page = Page(written(place, status=2))
    assert "server.key" in page.text
    assert "Limits" not in page.text


def test_it_is_json_for_scripts_as_well(place: Configured) -> None:
    assert place.run("doctor", "--config", place.config("server"), "--json", "--html", "r.html").stdout.strip() == "[]"
    assert Path("r.html").exists()


def test_no_secrets(place: Configured) -> None:
    content = written(place)
    secrets = re.findall(r'secret = "(.+)"', Path("server/keyring.toml").read_text())
    assert secrets
    assert not any(secret in content for secret in secrets)
    assert "PRIVATE" not in content


@pytest.mark.parametrize("tag", ["<script>alert(1)</script>", "\"><img/src=x'onerror=a>", "</style><b>"])
def test_names_are_nothing_but_text(place: Configured, tag: str) -> None:
    hostile(place, tag)
    config = Path("server", f"{tag.replace('/', '')}.toml")
    place.run("doctor", "--config", str(config), "--html", "report.html", status=1)
    page = Page(Path("report.html").read_text())
    assert not {tag for tag, _ in page.elements} & {"script", "img", "b", "link", "iframe", "object", "a"}
    assert len(page.all("style")) == len(page.all("title")) == len(page.all("h1")) == 1
    assert not any(name.startswith("on") or name in ("src", "href") for _, each in page.elements for name in each)
    assert f"uri:x:{tag}" in page.text
    assert str(config) in page.text
    assert "soon" in page.text


def test_what_it_shows_is_said(place: Configured) -> None:
    """Each drawing in words, headings in order, and sections that have names."""
    page = Page(written(place))
    drawings = page.all("svg")
    assert len(drawings) == 4
    assert all(each["role"] == "img" and ": until 2" in (each["aria-label"] or "") for each in drawings)
    assert page.all("html") == [{"lang": "en"}]
    headings = [tag for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert headings == ["h1", "h2", "h2", "h2", "h2"]
    named = {each["id"] for each in page.all("h2")}
    assert {each["aria-labelledby"] for each in page.all("section")} == named


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * each for each in digits)
    parts = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", range(3), ids=("light", "dark", "print"))
def test_contrast(scheme: int) -> None:
    """Of text, WCAG 2.1 asks for 4.5 to 1 (level AA)."""
    colours = dict(re.findall(r"--(\w+): (#\w+)", STYLE.split(":root {")[scheme + 1].partition("}")[0]))
    pairs = [(name, back) for name in ("text", "quiet") for back in ("back", "soft")]
    pairs += [(name, "back") for name in ("good", "warning", "critical", "later")]
    pairs += [("on", name) for name in ("note", "warning", "critical")]
    for one, other in pairs:
        darker, lighter = sorted(luminance(colours[name]) for name in (one, other))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (one, other)


def browse(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
    quiet += ("--disable-background-networking", "--disable-component-update", f"--user-data-dir={place / 'profile'}")
    return subprocess.run(
        [CHROMIUM, *quiet, "--enable-logging=stderr", *options, (place / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True, cwd=place,
    )  # fmt: skip


def pixels(png: bytes) -> bytes:
    """Return the filtered pixels of an image (PNG, section 9)."""
    data, position = b"", 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4])
        if png[position + 4 : position + 8] == b"IDAT":
            data += png[position + 8 : position + 8 + length]
        position += length + 12
    return zlib.decompress(data)


@pytest.mark.timeout(300)
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_a_browser(place: Configured) -> None:
    """It shows something, at both widths, has nothing to say to the console, and loads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        port = listening.getsockname()[1]
        hostile(place, f"<img/src=//127.0.0.1:{port}/>")
        written(place, status=1)
        shown = browse(place.directory, "--dump-dom")
        assert "CONSOLE" not in shown.stderr
        page = Page(shown.stdout)
        assert "What to do:" in page.text
        assert not page.all("img")
        for width in (1200, 400):
            browse(place.directory, f"--window-size={width},1500", f"--screenshot=report-{width}.png")
            assert len(set(pixels((place.directory / f"report-{width}.png").read_bytes()))) > 50
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_ends_beyond_both_edges(place: Configured) -> None:
    place.run("keys", "new", "--file", "server/keyring.toml", "--id", "old", "--not-before", "2001-01-01")
    page = Page(written(place))
    bars = [(float(each["x"] or ""), float(each["width"] or "")) for each in page.all("rect")]
    assert (0.0, 1000.0) in bars
    assert all(start >= 0 and start + width <= 1000 + 4 for start, width in bars)
