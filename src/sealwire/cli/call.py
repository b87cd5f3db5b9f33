"""``sealwire call``: requests from the command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, Final

import click

from sealwire.cli.addresses import DatagramAddress, ServerAddress
from sealwire.cli.clients import open_client
from sealwire.cli.console import error_line, print_json
from sealwire.cli.lines import LineReader, Lines
from sealwire.cli.messages import Read, load_security, message_reader, parse_message
from sealwire.cli.options import app_dir_option, config_option, server_argument, timeout_option, wait_option
from sealwire.cli.progress import progress
from sealwire.cli.replies import any_integer, as_json
from sealwire.errors import DecodeError, EncodeError, PayloadTooLarge, RemoteError, SealwireError
from sealwire.wire.frames import FaultCode

_NEGATIVE: Final = re.compile(r"-[\dI]")  # I: of -Infinity, which JSON lacks, and the error says so
_PLAIN: Final = (dict, list, str, int, float, bool, type(None))
_TYPED: Final = 'a value of a type on the allowlist is written with --type MODULE:CLASS, or with "$type" in the JSON'


class _Call(click.Command):
    """A command with an argument that may be a negative number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = any(_NEGATIVE.match(each) for each in args)  # -5 is a message, -x a mistake
        return super().parse_args(ctx, args)


@click.command(cls=_Call)
@server_argument
@click.argument("message", metavar="[JSON]", required=False)
@config_option
@click.option("--type", "type_name", metavar="MODULE:CLASS", help="The message is of this type of the allowlist.")
@click.option("--lines", "-l", is_flag=True, help="Send each line as a request, and print each reply as a line.")
@click.option("--stream", "-s", is_flag=True, help="Print each part of a reply in parts as a line, when it comes.")
@app_dir_option
@timeout_option
@wait_option
@click.option("--idempotent", is_flag=True, help="Send it again if the connection breaks: acting twice does no harm.")
def call(
    *, address: ServerAddress, message: str | None, config: Path, timeout: float, wait: float, **options: Any
) -> None:
    """Send a JSON value and print the reply.

    ADDRESS is HOST:PORT, unix:PATH, udp://HOST:PORT, nats://HOST:PORT/SUBJECT, or HOST:PORT and unix:PATH of several
    servers with commas between them, of which one answers.

    @FILE in place of JSON reads it from a file, and a dash from standard input. With --lines each line of it is a
    request, from standard input if nothing else is said. They are sent without waiting for each reply. A line of output
    belongs to each line of input: its reply, or {"$error": "what is wrong"}, with the code of a fault.

    {"$type": "shop:Order", "id": 1} is an Order, if the allowlist has that type: it is made of its fields, each
    converted as its annotation says. {"$type": "uuid:UUID", "$value": "…"} is a value without fields.

    The reply is printed as JSON. Values that JSON lacks are printed as text: dates and times in ISO 8601, bytes in
    base64, all others by Python's str(): 12.50, 1/3, nan. Tuples, sets and deques are arrays; a dict with a key that
    is not a string is an array of [key, value] arrays.

    \b
    sealwire call localhost:7443 '{"item": "tea", "count": 2}' --config client.toml
    sealwire call unix:/run/shop.sock @order.json --type shop:Order --config client.toml
    sealwire call a.example:7443,b.example:7443 --lines --config client.toml < orders.jsonl
    sealwire call tls://nats.example/orders '{"item": "tea", "count": 2}' --config client.toml
    """
    lines, stream, idempotent = options["lines"], options["stream"], options["idempotent"]
    if lines and stream:
        raise click.UsageError("--lines and --stream do not go together; leave one out")
    if stream and isinstance(address, DatagramAddress):
        raise click.UsageError("UDP carries no replies in parts; leave out --stream, or call a server on TCP")
    if lines and message not in (None, "-") and not str(message).startswith("@"):
        raise click.UsageError("--lines reads requests from a file: give @FILE, or - for standard input")
    if message is None and not lines:
        raise click.UsageError("there is no message: give JSON, @FILE or -")
    security = load_security(config)
    if lines:
        read = message_reader(config, security, options["type_name"])
        with _input(message) as file, open_client(address, timeout, wait, security) as client:
            _send_lines(client, LineReader(file.fileno()), read, idempotent=idempotent)
        return
    value = parse_message(config, security, message or "", options["type_name"])
    with open_client(address, timeout, wait, security) as client:
        try:
            if stream:
                _print_parts(client, value, idempotent=idempotent)
                return
            reply = client.send_request(value, idempotent=idempotent)
        except RemoteError as error:
            if error.code == FaultCode.TYPE_NOT_ALLOWED and type(value) in _PLAIN:
                raise RemoteError(error.code, f"{error.text}; {_TYPED}") from None
            raise
    with any_integer():
        print_json(as_json(reply))


def _input(message: str | None) -> AbstractContextManager[IO[bytes]]:
    if message is None or message == "-":
        return nullcontext(sys.stdin.buffer)
    return open(message[1:], "rb")


def _send_lines(client: Any, reader: LineReader, read: Read, *, idempotent: bool) -> None:
    def send(requests: Iterator[Any]) -> Iterator[Any]:
        if hasattr(client, "send_requests"):
            return iter(client.send_requests(requests, idempotent=idempotent, return_errors=True))
        return _one_by_one(client, requests, idempotent=idempotent)  # UDP

    with progress("no reply yet", reader.size, mixed=False) as show:

        def print_reply(reply: Any) -> None:
            _print_reply(reply)
            show(reader.taken, f"{lines.count:,} sent, {lines.failed:,} without a reply")

        lines = Lines(send, reader, read, print_reply)
        lines.run()
    if lines.failed:
        raise click.ClickException(
            f"{lines.failed:,} of {lines.count:,} requests have no reply; see $error in the output"
        )


def _one_by_one(client: Any, requests: Iterator[Any], *, idempotent: bool) -> Iterator[Any]:
    for request in requests:
        try:
            reply = client.send_request(request, idempotent=idempotent)
        except (RemoteError, DecodeError, EncodeError, PayloadTooLarge) as error:
            yield error
        else:
            yield reply


def _print_reply(reply: Any) -> None:
    """Print a reply, or an error in its place, as one line, and at once."""
    if isinstance(reply, SealwireError | ValueError):
        text = {"$error": error_line(reply) if isinstance(reply, SealwireError) else str(reply)}
        reply = text | ({"code": reply.code} if isinstance(reply, RemoteError) else {})
    with any_integer():
        print_json(as_json(reply), indent=None)
    sys.stdout.flush()


def _print_parts(client: Any, value: Any, *, idempotent: bool) -> None:
    with client.stream(value, idempotent=idempotent) as parts:
        for part in parts:
            _print_reply(part)
        if parts.result is not None:
            _print_reply(parts.result)
