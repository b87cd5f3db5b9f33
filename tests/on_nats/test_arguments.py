"""What a user can get wrong: each error says what, and what to do."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sealwire import ConfigurationError, Limits, PeerPolicy, Security, TransportError
from sealwire.cli.app import app
from sealwire.nats import AsyncNATSClient, NATSServer, SynchronousNATSClient
from sealwire.nats.urls import address_of, parse_urls
from support.nats import NATS
from support.service import Deployment

URL = "nats://127.0.0.1:4222"
SECRET = "a-password"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no URL": ({"url": "orders"}, "a URL of a NATS server is 'nats://HOST:PORT'"),
    "another scheme": ({"url": f"http://u:{SECRET}@h:1"}, "a URL of a NATS server"),
    "a path": ({"url": f"nats://u:{SECRET}@h:1/orders"}, "a URL of a NATS server"),
    "a bad port": ({"url": f"nats://u:{SECRET}@h:99999"}, "a URL of a NATS server"),
    "no URLs": ({"url": []}, "url must be the URL"),
    "a wildcard": ({"subject": "orders.*"}, "subject must be names joined by dots"),
    "a space": ({"subject": "or ders"}, "without wildcards and spaces"),
    "an empty token": ({"subject": "orders."}, "subject must be"),
    "no str": ({"subject": 7}, "subject must be"),
    "a long one": ({"subject": "x" * 256}, "255 characters"),
    "an option of ours": ({"options": {"allow_reconnect": True}}, "allow_reconnect, which Sealwire sets itself"),
    "no options": ({"options": ["user"]}, "options must be a dict"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("kind", [NATSServer, AsyncNATSClient, SynchronousNATSClient])
def test_mistakes(mistake: str, kind: Any, deployment: Deployment) -> None:
    wrong, text = MISTAKES[mistake]
    given = {"url": URL, "subject": "orders", "options": {}} | wrong
    url, subject, options = given["url"], given["subject"], given["options"]
    security = deployment.server_security(peers=["dns:localhost"])
    make = partial(kind, url, *([len] if kind is NATSServer else []), subject=subject, options=options)
    with pytest.raises(ConfigurationError) as caught:
        make(security=security)
    assert text in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("sessions", [0, 257, True, 1.0])
def test_the_number_of_sessions(sessions: Any, deployment: Deployment) -> None:
    security = deployment.security("client", peers=["dns:localhost"])
    with pytest.raises(ConfigurationError, match="sessions must be a whole number from 1 to 256"):
        AsyncNATSClient(URL, "orders", sessions=sessions, security=security)


def test_a_client_must_say_who_may_serve(deployment: Deployment) -> None:
    with pytest.raises(ConfigurationError, match=r"no host name to verify: list the workers' names, as in peers="):
        AsyncNATSClient(URL, "orders", security=deployment.security("client"))
    AsyncNATSClient(URL, "orders", security=deployment.security("client", peers=PeerPolicy.any_signed_by_ca()))


def test_a_signal_handler_closes_it_while_it_begins(deployment: Deployment) -> None:
    """It has begun nothing yet, so nothing is closed, and nothing waits for ever."""
    client = SynchronousNATSClient(URL, "orders", security=deployment.security("client", peers=["dns:localhost"]))
    make = client._make

    def interrupted() -> AsyncNATSClient:
        client.close()
        return make()

    client._make = interrupted
    thread = threading.Thread(target=client._here, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    client.close()


def test_passwords_are_in_no_text(deployment: Deployment) -> None:
    """Of a URL, and of options."""
    security = deployment.security("client", peers=["dns:localhost"])
    url = f"nats://user:{SECRET}@127.0.0.1:9,nats://user:{SECRET}@127.0.0.1:10"
    with SynchronousNATSClient(url, "orders", security=security, options={"password": SECRET}) as client:
        assert repr(client) == "<SynchronousNATSClient nats://127.0.0.1:9,127.0.0.1:10/orders, not connected>"
        with pytest.raises(TransportError) as caught:
            client.send_request(1)
    assert SECRET not in str(caught.value)


async def ask(url: str, security: Security, **options: Any) -> None:
    async with AsyncNATSClient(url, "orders", security=security, timeout=5, options=options) as client:
        await client.send_request(1)


def test_what_a_nats_server_refuses(deployment: Deployment, tmp_path: Path) -> None:
    """Users without the password, messages that are too small, and no TLS although the client wants it."""
    security = deployment.security("client", peers=["dns:localhost"])
    (tmp_path / "small.conf").write_text("max_payload: 1024")
    (tmp_path / "users.conf").write_text('authorization { user: "u", password: "p" }')
    for name, error, text, options in (
        ("users.conf", TransportError, "Authorization Violation|refuses a user", {"user": "u", "password": SECRET}),
        ("small.conf", ConfigurationError, "max_payload is 1024 bytes; 4096 are needed", {}),
    ):
        with NATS("-c", str(tmp_path / name)) as nats, pytest.raises(error, match=text) as caught:
            asyncio.run(ask(nats.url, security, **options))
        assert SECRET not in str(caught.value)
    with NATS() as nats, pytest.raises(TransportError, match="does not speak TLS, which tls:// asks for"):
        asyncio.run(ask(nats.url.replace("nats", "tls"), security))


def test_permissions(deployment: Deployment, tmp_path: Path) -> None:
    """What is not permitted is said at once, to a worker and to a client."""
    conf = tmp_path / "users.conf"
    permissions = 'publish: ["x"], subscribe: ["_INBOX.>"]'
    conf.write_text(f'authorization {{ users: [{{ user: "u", password: "p", permissions: {{ {permissions} }} }}] }}')
    options = {"user": "u", "password": "p"}
    with NATS("-c", str(conf)) as nats:

        async def serve() -> None:
            async with NATSServer(nats.url, len, deployment.server_security(), subject="orders", options=options):
                pass

        with pytest.raises(TransportError, match='refused: permissions violation for subscription to "orders"'):
            asyncio.run(serve())
        security = deployment.security("client", peers=["dns:localhost"], limits=Limits())
        with pytest.raises(TransportError, match='permissions violation for publish to "orders"'):
            asyncio.run(ask(nats.url, security, **options))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nats", URL], "--nats and --subject belong together"),
        (["--subject", "orders"], "--nats and --subject belong together"),
        (["--nats", URL, "--subject", "orders", "--workers", "2"], "start as many as you need"),
        (["--nats", URL, "--subject", "orders", "--server", "forking"], "start as many as you need"),
    ],
)
def test_the_command(arguments: list[str], text: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["serve", "a:b", "--config", str(tmp_path / "x"), *arguments])
    assert done.exit_code == 64
    assert text in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        (["tls://a", "tls://u:p@b:1"], "tls://a:4222,b:1/orders"),
        (["nats://a"], "nats://a:4222/orders"),
        (["nats://a", "tls://b"], "nats://a:4222,b:4222/orders"),
    ],
)
def test_the_address_has_the_scheme_that_was_given(urls: list[str], shown: str) -> None:
    assert address_of(parse_urls(urls), "orders") == shown
