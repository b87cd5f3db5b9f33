"""Take the pictures of `demo`, `top` and `bench` in docs/pictures: ``python docs/pictures.py``, some twenty seconds.

Each command runs in a terminal of its own, and what its screen shows in the end is kept as SVG, without fonts.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import groupby
from pathlib import Path

import pyte
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

PLACE = Path(__file__).parent / "pictures"
COLUMNS = 120
MOST_BYTES = 120_000
COMMAND = shutil.which("sealwire", path=str(Path(sys.executable).parent)) or "sealwire"
SERVER = """cert = "certs/server.pem"
key = "certs/server.key"
ca = "certs/ca.pem"
keyring = "certs/keyring.toml"
peers = ["dns:client.example"]
"""


def screen_of(arguments: list[str], directory: Path, rows: int) -> Text:
    """Run a command in a terminal. Return what its screen shows at the end."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(rows)}
    running = subprocess.Popen(
        [COMMAND, *arguments], cwd=directory, env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    screen = pyte.Screen(COLUMNS, rows)
    stream = pyte.ByteStream(screen)
    try:
        while data := os.read(leader, 65_536):
            stream.feed(data)
    except OSError:  # the last process of the terminal has ended
        pass
    os.close(leader)
    running.wait()
    return Text("\n").join(lines_of(screen))


def lines_of(screen: pyte.Screen) -> list[Text]:
    lines = []
    for row in range(screen.lines):
        line = Text()
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        for style, run in groupby(cells, key=lambda cell: (cell.fg, cell.bg, cell.bold, cell.reverse)):
            line.append("".join(cell.data for cell in run), style_of(*style))
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1]:
        lines.pop()
    return lines


def style_of(foreground: str, background: str, bold: bool, reverse: bool) -> Style:
    def color(name: str) -> Color | None:
        if name == "default":
            return None
        return Color.parse(f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else name.replace("brown", "yellow"))

    return Style(color=color(foreground), bgcolor=color(background), bold=bold, reverse=reverse)


def keep(name: str, shown: Text) -> None:
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text.assemble("$ sealwire ", name, "\n", shown))
    svg = console.export_svg(title=f"sealwire {name.split()[0]}", unique_id=name.split()[0])
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    assert len(svg) <= MOST_BYTES, f"{name}: {len(svg)} bytes"
    PLACE.mkdir(exist_ok=True)
    (PLACE / f"{name.split()[0]}.svg").write_text(svg, encoding="utf-8")


@contextmanager
def served() -> Iterator[tuple[Path, Callable[..., subprocess.Popen[bytes]]]]:
    """A server with an admin endpoint, and a function that starts commands beside it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen([COMMAND, *arguments], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        return started[-1]

    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "orders.py").write_text("def respond(message):\n    return message\n")
        (place / "server.toml").write_text(SERVER)
        (place / "sealwire.toml").write_text(SERVER.replace("server.", "client.").rsplit("peers", 1)[0])
        for arguments in (
            ("certs", "init", "--server", "localhost", "--client", "client.example"),
            ("keys", "new"),
        ):
            subprocess.run([COMMAND, *arguments], cwd=place, check=True, capture_output=True)
        try:
            server = start(
                "serve", "orders:respond", "--config", "server.toml", "--port", "7443", "--admin", "127.0.0.1:9090"
            )
            assert server.stdout is not None
            server.stdout.readline()  # that it serves
            yield place, start
        finally:
            for each in started:
                each.terminate()
                each.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        keep("demo", screen_of(["demo"], Path(directory), 60))
    with served() as (place, start):
        load = ("bench", "localhost:7443", "--clients", "4")
        keep("bench localhost:7443 --clients 4 --duration 3", screen_of([*load, "--duration", "3"], place, 60))
        start(*load, "--duration", "20", "--rate", "400")
        keep("top 127.0.0.1:9090", screen_of(["top", "127.0.0.1:9090", "--times", "4"], place, 40))


if __name__ == "__main__":
    main()
