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


def leaked_key() -> Drawing:
    drawing = Drawing("Each of two secrets that leak opens nothing without the other", 190)
    drawing.box(20, 20, 190, "attacker with a copy", "of the pre-shared key", foe=True)
    drawing.box(20, 100, 190, "attacker with a copy", "of a leaf's private key", foe=True)
    drawing.box(590, 55, 150, "server", "list of peers", "the key")
    drawing.arrow(215, 42, 586, 75)
    drawing.arrow(215, 122, 586, 95)
    drawing.stop(330, 38, 68, "no certificate", "on the list")
    drawing.stop(470, 88, 118, "no tag under the key")
    drawing.text(380, 172, "both, of one client: the attacker is that client, until one of them is revoked")
    return drawing


def author() -> Drawing:
    drawing = Drawing("The author of a message chooses values of allowed types, and nothing else", 190)
    drawing.box(
        20,
        25,
        170,
        "attacker",
        "each byte of a payload:",
        "os.system, 10 GB of lists,",
        "a million equal hashes",
        foe=True,
    )
    drawing.box(590, 25, 150, "the program", "values of types", "on the list")
    drawing.arrow(195, 65, 586, 65, "opcodes, followed one by one before anything is built")
    drawing.stop(265, 82, 112, "a name that is not", "on the list: no import")
    drawing.stop(405, 82, 112, "size, depth, memory,", "cost of keys: bounded")
    drawing.stop(540, 82, 112, "fields of the", "declared types")
    return drawing


def flood() -> Drawing:
    drawing = Drawing("A flood gets its share of the service", 215)
    drawing.box(20, 20, 170, "strangers", "connections without end", foe=True)
    drawing.box(20, 130, 170, "a client in a flood", "requests without end", foe=True)
    drawing.box(590, 20, 150, "server", "everybody else's", "requests go on")
    drawing.arrow(195, 42, 586, 42)
    drawing.arrow(195, 152, 586, 78)
    drawing.stop(390, 26, 58, "max_handshakes, shared among addresses;", "the oldest gives way")
    drawing.stop(420, 98, 130, "max_in_flight, max_buffered, turns between peers;", "max_requests_per_second: FAULT 21")
    return drawing


def machine() -> Drawing:
    drawing = Drawing("Another user of the machine finds closed doors", 200)
    drawing.box(20, 25, 170, "another user", "reads, connects,", "lays traps in /tmp", foe=True)
    drawing.box(560, 15, 180, "private keys, keyring", "0600, or not loaded")
    drawing.box(560, 80, 180, "Unix socket", "uid of the peer, a list")
    drawing.box(560, 145, 180, "directories, links", "owned, not replaceable")
    for y, end in ((45, 38), (65, 103), (75, 168)):
        drawing.arrow(195, y, 556, end)
    drawing.stop(300, 22, 122, "modes and owners are checked,", "also of each directory above")
    return drawing


def files() -> Drawing:
    drawing = Drawing("What is written into the files is proved before it is in service", 170)
    drawing.box(20, 25, 170, "a writer of files", "by mistake, or half", foe=True)
    drawing.box(300, 25, 170, "proof", "parsed, verified, fits", "as one snapshot")
    drawing.box(570, 25, 170, "in service", "the last good one")
    drawing.arrow(195, 55, 296, 55)
    drawing.arrow(475, 55, 566, 55)
    drawing.stop(520, 40, 95, "a file that would refuse everybody,", "is cut, or is another's: kept out, and logged")
    drawing.text(110, 115, "with ill will, a writer of", color="#c81e1e")
    drawing.text(110, 132, "these files has everything", color="#c81e1e")
    return drawing


def broker() -> Drawing:
    drawing = Drawing("A NATS server or a broker carries what it can neither read nor make", 180)
    drawing.box(20, 25, 140, "client", "its certificate", "the key")
    drawing.box(290, 25, 180, "NATS, Redis, RabbitMQ", "delays, drops, repeats", foe=True)
    drawing.box(600, 25, 140, "worker", "its certificate", "the key")
    drawing.arrow(165, 55, 286, 55, "TLS and frames")
    drawing.arrow(475, 55, 596, 55, "from end to end")
    drawing.stop(
        380,
        96,
        118,
        "sessions: no message is read, made, changed or delivered twice;",
        "envelopes: none is read, made, changed or moved to another place",
    )
    return drawing


def envelope() -> Drawing:
    drawing = Drawing("An envelope opens at its place, under its key, until its end", 180)
    drawing.box(20, 25, 140, "sealer", "value, purpose,", "context, lifetime")
    drawing.box(290, 25, 180, "file, cache, queue", "copies, moves, keeps", foe=True)
    drawing.box(600, 25, 140, "opener", "purpose, context", "types on the list")
    drawing.arrow(165, 55, 286, 55)
    drawing.arrow(475, 55, 596, 55)
    drawing.stop(535, 75, 112, "another place, key, byte or time: EnvelopeError")
    drawing.text(
        380, 160, "within its lifetime it can be delivered again, or an older one in its place", color="#c81e1e"
    )
    return drawing


def proxy_header() -> Drawing:
    drawing = Drawing("Only a listed proxy says where a client is, and nobody is let in for it", 170)
    drawing.box(20, 20, 170, "listed proxy", "PROXY 192.0.2.7")
    drawing.box(20, 95, 170, "anybody else", "PROXY 10.0.0.1", foe=True)
    drawing.box(590, 45, 150, "server", "address for logs", "and for shares")
    drawing.arrow(195, 42, 586, 70)
    drawing.arrow(195, 117, 586, 90)
    drawing.stop(390, 92, 122, "not in proxy_protocol: a header ends the connection")
    return drawing


def outside() -> Drawing:
    drawing = Drawing("Probes and logs show names and counts, and take no orders", 190)
    drawing.box(20, 25, 170, "caller of the admin", "endpoint", foe=True)
    drawing.box(20, 105, 170, "peer with a name like", "ESC [2J or a line break", foe=True)
    drawing.box(570, 25, 170, "server", "answers four GETs")
    drawing.box(570, 105, 170, "log, terminal", "one line, escaped")
    drawing.arrow(195, 48, 566, 48)
    drawing.arrow(195, 128, 566, 128)
    drawing.stop(380, 34, 62, "loopback or a Unix socket; no secrets, no commands")
    drawing.stop(380, 114, 142, "control characters escaped, lengths and rates bounded")
    return drawing


def main() -> None:
    attackers = (on_the_network, by_mistake, proxy, leaked_key, client, server, author, flood, machine, files)
    for draw in (*attackers, broker, envelope, proxy_header, outside):
        draw().write(draw.__name__.replace("_", "-"))


if __name__ == "__main__":
    main()
