from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from sealwire.cli.addresses import Address, DatagramAddress, Several, Subject, UnixAddress, parse_address
from sealwire.cli.app import app


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("server.example:7443", Address("server.example", 7443)),
        ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
        ("unix:/run/shop.sock", UnixAddress("/run/shop.sock")),
        ("unix:shop.sock", UnixAddress("shop.sock")),
        ("udp://server.example:7443", DatagramAddress("server.example", 7443)),
        ("udp://[::1]:7443", DatagramAddress("::1", 7443)),
        ("nats://a:4222/orders", Subject("nats://a:4222", "orders")),
        ("tls://a,b/orders", Subject("tls://a,b", "orders")),
        ("a:1,unix:/b", Several((Address("a", 1), UnixAddress("/b")))),
    ],
)
def test_each_form_is_read_and_written(text: str, address: Any) -> None:
    found = parse_address(text)
    assert found == address
    assert type(found) is type(address)
    assert str(found) == text


def test_no_password_is_shown() -> None:
    address = parse_address("nats://me:secret@a,you:secret@b/orders")
    assert address == Subject("nats://me:secret@a,you:secret@b", "orders")
    assert str(address) == "nats://b/orders"
    for text in ("nats://me:se/cret@a/x", "udp://me:secret@a:1", "a:1,nats://me:secret@b/c", "me:secret@a:1"):
        result = CliRunner().invoke(app, ["call", text, "1"])
        assert "expected HOST:PORT" in result.stderr
        assert "cret@" not in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost", "it has no port"),
        ("[::1]", "it has no port"),
        (":1", "it has no host"),
        ("[]:1", "it has no host"),
        ("::1:80", r"an IPv6 address needs brackets, as in \[::1\]:80"),
        ("a:0", "the port must be a number from 1 to 65535"),
        ("a:65536", "the port must be a number"),
        ("a:٣", "the port must be a number"),
        ("a/b:1", "its host has a character that no host has"),
        ("unix:", "there is no path after unix:"),
        ("http://a:1", "there is no scheme http://"),
        ("nats://a", "a URL of NATS ends with one subject"),
        ("udp://a", "it has no port"),
        ("a:1,", "there is no address between two commas"),
        ("a:1,udp://b:2", "udp://b:2 cannot be one of several"),
        ("a:1,b", "it has no port"),
        ("./shop.sock", r"the path of a Unix socket is written unix:\./shop\.sock"),
        ("a:1,/run/shop.sock", "the path of a Unix socket is written unix:/run/shop.sock"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_address(text)
