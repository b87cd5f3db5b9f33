from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError
from sealwire.pki.subject_names import name_text, subject_alternative_names

KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.UniformResourceIdentifier: "uri",
    x509.RFC822Name: "email",
}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("localhost", "dns", "localhost"),
        ("Server.EXAMPLE", "dns", "server.example"),
        ("xn--bcher-kva.example", "dns", "xn--bcher-kva.example"),
        ("*.example.com", "dns", "*.example.com"),
        ("dns:client.example", "dns", "client.example"),
        ("127.0.0.1", "ip", "127.0.0.1"),
        ("::1", "ip", "::1"),
        ("2001:DB8::0:7", "ip", "2001:db8::7"),
        ("ip:192.0.2.7", "ip", "192.0.2.7"),
        ("spiffe://prod/billing/worker", "uri", "spiffe://prod/billing/worker"),
        ("https://a.example/?q=%20", "uri", "https://a.example/?q=%20"),
        ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "uri", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("uri:dns:x", "uri", "dns:x"),
        ("ops@client.example", "email", "ops@client.example"),
        ("email:a.b+c@d.example", "email", "a.b+c@d.example"),
    ],
)
def test_accepted(text: str, kind: str, value: str) -> None:
    (name,) = subject_alternative_names([text])
    assert KINDS[type(name)] == kind
    assert str(name.value) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8443",
        "a..b",
        "a.example.",
        "-a.example",
        "a-.example",
        "a b",
        "a\n",
        "a\x00b",
        "x" * 64,
        ".".join(["x" * 63] * 4),
        "*",
        "*.com",
        "*a.example.com",
        "a.*.example.com",
        "256.0.0.1",
        "1.2.3",
        "10.0.0.0/8",
        "ip:localhost",
        "fe80::1%eth0",
        "0.0.0.0",
        "::",
        "dns:",
        "uri:no-scheme",
        "://x",
        "http://a b",
        "http://a/%zz",
        "http://a/\n",
        "uri:" + "x:" + "y" * 2048,
        "spiffe://prod",
        "spiffe://prod/",
        "spiffe:///path",
        "spiffe://Prod/a",
        "SPIFFE://prod/a",
        "spiffe://prod:80/a",
        "spiffe://u@prod/a",
        "spiffe://prod/a/",
        "spiffe://prod/a//b",
        "spiffe://prod/a/../b",
        "spiffe://prod/./b",
        "spiffe://prod/a?b",
        "spiffe://prod/a#b",
        "spiffe://prod/%61",
        "uri:spiffe:prod",
        "@a.example",
        "a@",
        "a@b@c.example",
        "a..b@c.example",
        "Name <a@b.example>",
        "email:a",
        "sha256:00",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        subject_alternative_names([text])


@pytest.mark.parametrize("text", ["bücher.example", "faß.example", "http://bücher.example/", "ö@a.example"])
def test_not_ascii_says_what_to_write(text: str) -> None:
    with pytest.raises(ConfigurationError, match="xn--"):
        subject_alternative_names([text])


def test_what_is_not_a_str() -> None:
    with pytest.raises(ConfigurationError, match="not bytes"):
        subject_alternative_names([b"localhost"])


def test_each_once_and_in_order() -> None:
    names = subject_alternative_names(["b.example", "a.example", "B.example", "dns:a.example"])
    assert [name.value for name in names] == ["b.example", "a.example"]


def test_none_at_all() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        subject_alternative_names([])


def test_a_spiffe_id_is_the_only_uri() -> None:
    with pytest.raises(ConfigurationError, match="no other URI"):
        subject_alternative_names(["spiffe://prod/a", "https://a.example/"])
    assert len(subject_alternative_names(["spiffe://prod/a", "a.example"])) == 2
    assert len(subject_alternative_names(["https://a.example/", "https://b.example/"])) == 2


@given(st.text(max_size=40) | st.from_regex(r"(dns:|ip:|uri:|email:|spiffe://)?[ -~]{0,30}", fullmatch=True))
def test_any_text_is_taken_or_refused_properly(text: str) -> None:
    try:
        (name,) = subject_alternative_names([text])
    except ConfigurationError:
        return
    x509.SubjectAlternativeName([name]).public_bytes()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (x509.DNSName("client.example"), "dns:client.example"),
        (x509.UniformResourceIdentifier("spiffe://prod/billing"), "spiffe://prod/billing"),
        (x509.UniformResourceIdentifier("https://a.example/"), "uri:https://a.example/"),
        (x509.DNSName("spiffe://prod/billing"), "dns:spiffe://prod/billing"),
        (x509.RFC822Name("spiffe://prod/billing"), "email:spiffe://prod/billing"),
        (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), "other:<ObjectIdentifier(oid=1.2.3, name=Unknown OID)>"),
    ],
)
def test_text_of_a_name_keeps_its_kind(name: x509.GeneralName, text: str) -> None:
    assert name_text(name) == text
