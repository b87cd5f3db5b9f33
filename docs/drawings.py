"""Write the drawings of docs/explanation/security-model.md: ``python docs/drawings.py``.

One drawing for each attacker: what it has, what it tries, and what stops it.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

PLACE = Path(__file__).parent / "explanation" / "drawings"
INK, FRIEND, FOE, STOP, FAINT = "#1f2933", "#e8f0fe", "#fde2e1", "#1b7f4d", "#7b8794"


class Drawing:
    """Parts of an SVG, in the order in which they are drawn."""

    def __init__(self, title: str, height: int = 160) -> None:
        self.height = height
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" '
            'font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{FAINT}"/></marker></defs>',
            f'<rect width="760" height="{height}" rx="8" fill="#ffffff"/>',
        ]

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "middle", color: str = INK, bold: bool = False
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, name: str, *lines: str, foe: bool = False) -> None:
        height = 28 + 17 * len(lines)
        fill, edge = (FOE, "#c81e1e") if foe else (FRIEND, "#3b5b92")
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{edge}"/>'
        )
        self.text(x + width / 2, y + 19, name, bold=True)
        for number, line in enumerate(lines):
            self.text(x + width / 2, y + 37 + 17 * number, line)

    def arrow(self, x1: float, y1: float, x2: float, y2: float, words: str = "", *, tube: bool = False) -> None:
        line = f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
        if tube:
            self.parts.append(f'{line} stroke="#cfe3d8" stroke-width="18"/>')
        self.parts.append(f'{line} stroke="{FAINT}" stroke-width="1.5" marker-end="url(#arrow)"/>')
        if words:
            self.text((x1 + x2) / 2, min(y1, y2) - (15 if tube else 8), words)

    def stop(self, x: float, y1: float, y2: float, *lines: str) -> None:
        """Draw the wall that an attacker does not get past, with what it is made of below it."""
        self.parts.append(f'<line x1="{x}" y1="{y1}" x2="{x}" y2="{y2}" stroke="{STOP}" stroke-width="5"/>')
        for number, line in enumerate(lines):
            self.text(x, y2 + 17 + 16 * number, line, color=STOP)

    def write(self, name: str) -> None:
        PLACE.mkdir(exist_ok=True)
        (PLACE / f"{name}.svg").write_text("\n".join([*self.parts, "</svg>"]) + "\n", encoding="utf-8")


def on_the_network() -> Drawing:
    drawing = Drawing("An attacker on the network sees and changes nothing", 215)
    drawing.box(20, 25, 150, "client", "its certificate", "the key")
    drawing.box(590, 25, 150, "server", "its certificate", "the key")
    drawing.arrow(185, 60, 580, 60, "TLS 1.3, a certificate on each side", tube=True)
    drawing.box(275, 150, 210, "attacker on the network", "reads, changes, repeats, floods", foe=True)
    drawing.arrow(380, 148, 380, 102)
    drawing.parts.append(f'<line x1="320" y1="92" x2="440" y2="92" stroke="{STOP}" stroke-width="5"/>')
    drawing.text(452, 97, "TLS ends at the first", anchor="start", color=STOP)
    drawing.text(452, 114, "byte that was changed", anchor="start", color=STOP)
    return drawing


def by_mistake() -> Drawing:
    drawing = Drawing("A certificate that was issued by mistake is not enough")
    drawing.box(20, 25, 190, "attacker", "a certificate of the CA,", "even with a client's name", "no key", foe=True)
    drawing.box(590, 25, 150, "server", "its certificate", "the key", "list of peers")
    drawing.arrow(215, 60, 580, 60, "TLS 1.3 succeeds")
    drawing.stop(330, 78, 108, "the name is not", "on the list of peers")
    drawing.stop(510, 78, 108, "HELLO has no tag", "under the key (REJECT 3)")
    drawing.arrow(215, 93, 326, 93)
    drawing.arrow(336, 93, 506, 93)
    return drawing


def proxy() -> Drawing:
    drawing = Drawing("A proxy that ends TLS cannot speak for either side")
    drawing.box(20, 25, 140, "client", "sees certificate P", "the key")
    drawing.box(280, 25, 200, "attacker as proxy", "certificates P and Q, which", "both sides accept; no key", foe=True)
    drawing.box(600, 25, 140, "server", "sees certificate Q", "the key")
    drawing.arrow(165, 55, 272, 55, "TLS 1", tube=True)
    drawing.arrow(488, 55, 592, 55, "TLS 2", tube=True)
    drawing.stop(
        540,
        80,
        112,
        "HELLO was tagged for P and the client's certificate,",
        "not for the certificates of TLS 2 (REJECT 3)",
    )
    return drawing


def client() -> Drawing:
    drawing = Drawing("A client that is let in can send messages, and nothing more", 180)
    drawing.box(15, 25, 120, "attacker", "a certificate on", "the list, a key", foe=True)
    steps = (
        ("frame", "length, tag,", "next number"),
        ("vetting", "all of it, before", "anything is built"),
        ("types", "on the list, with", "declared fields"),
        ("rules", "this type from", "this peer"),
        ("handler", "your code", "judges the rest"),
    )
    for number, (name, *lines) in enumerate(steps):
        left = 158 + 120 * number
        drawing.arrow(left - 20, 55, left - 2, 55)
        drawing.box(left, 25, 100, name, *lines)
    for x, lines in (
        (208, ("FrameTooLarge,", "BadTag: the end", "of the connection")),
        (328, ("FAULT 16 or 18:", "no import, no call,", "bounded memory")),
        (448, ("FAULT 17:", "refused before", "the handler")),
        (568, ("refused, and in", "the audit log")),
    ):
        drawing.stop(x, 97, 115, *lines)
    return drawing


def server() -> Drawing:
    drawing = Drawing("A server that turns bad can lie in its replies, and nothing more")
    drawing.box(20, 25, 160, "client", "host name or list", "its own types", "deadline, limits")
    drawing.box(570, 25, 170, "server as attacker", "its certificate, a key", foe=True)
    drawing.arrow(565, 50, 190, 50, "a reply, or too many, or a hostile one")
    drawing.stop(270, 68, 98, "vetted like a request:", "only types on the list")
    drawing.stop(460, 68, 98, "answers only its own request,", "once, within max_frame and wait")
    return drawing


def main() -> None:
    for draw in (on_the_network, by_mistake, proxy, client, server):
        draw().write(draw.__name__.replace("_", "-"))


if __name__ == "__main__":
    main()
