from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealwire.errors import ConfigurationError
from sealwire.trust.identity import PeerIdentity
from sealwire.trust.peers import PeerPolicy

LEAF, KEY = "a1" * 32, "b2" * 32
_KINDS = ("dns", "uri", "ip", "email")
_NAMES = st.sampled_from(
    [
        *(("dns", name) for name in ("a.example", "b.example", "anonymous")),
        *(("uri", name) for name in ("urn:a", "urn:b", "dns:a.example")),
        *(("ip", name) for name in ("192.0.2.7", "2001:db8::7")),
        *(("email", name) for name in ("a@b.example", "A@b.example")),
    ]
)


def peer(**names: Any) -> PeerIdentity:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    facts: dict[str, Any] = {
        "serial": 1,
        "fingerprint": LEAF,
        "key_fingerprint": KEY,
        "not_before": moment,
        "not_after": moment,
    }
    return PeerIdentity(**(facts | {kind: tuple(values) for kind, values in names.items()}))


def allows(entry: str, **names: Any) -> bool:
    return PeerPolicy([entry]).allows(peer(**names))


class TestDns:
    @pytest.mark.parametrize(
        ("entry", "name"),
        [
            ("dns:client.example", "client.example"),
            ("dns:Client.Example.", "client.example"),
            ("dns:*.example", "client.example"),
            ("dns:client-*.example", "client-7.example"),
            ("dns:*.*.example", "a.b.example"),
            ("dns:worker-*", "worker-1"),
            ("dns:xn--bcher-kva.example", "xn--bcher-kva.example"),
        ],
    )
    def test_allowed(self, entry: str, name: str) -> None:
        assert allows(entry, dns=["other.example", name])

    @pytest.mark.parametrize(
        ("entry", "name"),
        [
            ("dns:client.example", "xclient.example"),
            ("dns:client.example", "client.example.evil"),
            ("dns:client.example", "clientxexample"),
            ("dns:client.example", "client.example\n"),
            ("dns:client.example", "client.example."),
            ("dns:client.example", "client.example\0"),
            ("dns:client.example", "client.example\0.evil"),
            ("dns:client.example", ""),
            ("dns:*.example", "a.b.example"),
            ("dns:*.example", ".example"),
            ("dns:*.example", "example"),
            ("dns:*.example", "*.example"),
            ("dns:*.example", "a\n.example"),
            ("dns:*.example", "-.example"),
            ("dns:*.example", "a" * 64 + ".example"),
            ("dns:*.example", "\u212a.example"),
            ("dns:client-*.example", "client-.example"),
            ("dns:client*.example", "client.example"),
            ("dns:client-*.example", "client-a.b.example"),
            ("dns:client.example", "*.example"),
            ("dns:keeper.example", "\u212aeeper.example"),
        ],
    )
    def test_not_allowed(self, entry: str, name: str) -> None:
        assert not allows(entry, dns=[name])

    @pytest.mark.parametrize(
        "entry",
        [
            "dns:", "dns: client.example", "dns:client.example ", "dns:client.example\n", "dns:client\texample",
            "dns:.", "dns:a..b", "dns:.example", "dns:-a.example", "dns:bücher.example", "dns:\u212aeeper.example",
            "dns:a\u200b.b", "dns:client.example:443", "dns:spiffe://prod", "dns:[a].b", "dns:(a|b)", "dns:a+",
            "dns:a?b", "dns:^a$",
            r"dns:\w", "dns:" + "a" * 64, "dns:" + ".".join(["a" * 60] * 5), "dns:192.0.2.7", "dns:127.1",
            "dns:*.0.2.7",
        ],
    )  # fmt: skip
    def test_is_not_a_dns_entry(self, entry: str) -> None:
        with pytest.raises(ConfigurationError):
            PeerPolicy([entry])

    @pytest.mark.parametrize("entry", ["dns:*", "dns:*.*", "dns:**", "dns:**.example", "dns:a*b*.example"])
    def test_too_wide_or_too_clever(self, entry: str) -> None:
        with pytest.raises(ConfigurationError, match="too wide"):
            PeerPolicy([entry])

    def test_is_not_a_host_of_another_kind(self) -> None:
        entry = "dns:client.example"
        assert not allows(entry, uri=["client.example", "dns:client.example"], email=["client.example"])
        assert not PeerPolicy([entry]).allows(peer(subject="CN=client.example"))

    def test_takes_no_time_whatever_the_name(self) -> None:
        policy = PeerPolicy(["dns:" + ".".join(["a*b"] * 40)])
        start = time.process_time()
        assert not policy.allows(peer(dns=[".".join(["a" * 5] * 40), "a" * 63, "a" * 100_000]))
        assert time.process_time() - start < 0.5

    @given(st.from_regex(r"[a-z0-9.\-\n*]{0,30}", fullmatch=True))
    @example("a.example\n")
    def test_star_is_within_a_label(self, name: str) -> None:
        if allows("dns:a*.example", dns=[name]):
            label, _, rest = name.partition(".")
            assert rest == "example"
            assert label.startswith("a")
            assert len(label) > 1
            assert label.replace("-", "").isalnum()


class TestUri:
    @pytest.mark.parametrize(
        ("entry", "uri"),
        [
            ("spiffe://prod/billing", "spiffe://prod/billing"),
            ("uri:spiffe://prod/billing", "spiffe://prod/billing"),
            ("spiffe://prod/*", "spiffe://prod/billing"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/worker/7"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/..."),
            ("uri:https://client.example/a?b=c#d", "https://client.example/a?b=c#d"),
            ("uri:https://client.example/*", "https://client.example/a/b~c"),
            ("uri:urn:uuid:00000000-0000-0000-0000-000000000000", "urn:uuid:00000000-0000-0000-0000-000000000000"),
        ],
    )
    def test_allowed(self, entry: str, uri: str) -> None:
        assert allows(entry, uri=[uri])

    @pytest.mark.parametrize(
        ("entry", "uri"),
        [
            ("spiffe://prod/billing", "spiffe://prod/billing/"),
            ("spiffe://prod/billing", "spiffe://prod/billing/x"),
            ("spiffe://prod/billing", "spiffe://prod/Billing"),
            ("spiffe://prod/billing", "spiffe://PROD/billing"),
            ("spiffe://prod/billing", "SPIFFE://prod/billing"),
            ("spiffe://prod/billing", "spiffe://prod/billing\n"),
            ("spiffe://prod/billing", "spiffe://prod/billing\0"),
            ("spiffe://prod/billing", "spiffe://prod/%62illing"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing//x"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x/"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/../admin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x/../../admin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/.."),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/./x"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/..//x"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/%2e%2e/admin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x%2f..%2fadmin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/..\\admin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x?admin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x#admin"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x\n"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/x\0"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/é"),
            ("spiffe://prod/billing/*", "spiffe://prod/billing/*"),
            ("spiffe://prod/billing/*", "spiffe://prod/billingx/y"),
            ("spiffe://prod/*", "spiffe://prod.evil/x"),
            ("spiffe://prod/*", "spiffe://evil@prod/x"),
            ("spiffe://prod/*", "spiffe://prod@evil/x"),
            ("spiffe://prod/*", "spiffe://prod:8080/x"),
            ("spiffe://prod/*", "spiffe://PROD/x"),
            ("spiffe://prod/*", "SPIFFE://prod/x"),
            ("spiffe://prod/*", "xspiffe://prod/x"),
            ("spiffe://prod/*", "billing"),
            ("spiffe://prod/*", "prod/billing"),
            ("spiffe://prod/*", "https://evil/spiffe://prod/x"),
            ("spiffe://prod/*", "spiffe://prod/https://evil"),
            ("uri:https://client.example/*", "https://client.example.evil/x"),
            ("uri:https://client.example/*", "https://client.example/"),
            ("uri:https://client.example/a", "https://client.example/A"),
        ],
    )
    def test_not_allowed(self, entry: str, uri: str) -> None:
        assert not allows(entry, uri=[uri])

    @pytest.mark.parametrize("entry", ["spiffe://prod/billing", "spiffe://prod/*"])
    def test_a_spiffe_certificate_has_one_uri(self, entry: str) -> None:
        assert not allows(entry, uri=["spiffe://prod/billing", "https://client.example/"])
        assert not allows(entry, uri=["spiffe://prod/billing", "spiffe://prod/billing"])
        assert not allows(entry, uri=["spiffe://prod/admin", "spiffe://prod/billing"])

    def test_other_uris_can_be_several(self) -> None:
        assert allows("uri:https://b.example/", uri=["https://a.example/", "https://b.example/"])

    @pytest.mark.parametrize(
        "entry",
        [
            "spiffe:", "spiffe://", "spiffe:///x", "spiffe://prod", "spiffe://prod/", "spiffe://PROD/x", "SPIFFE://prod/x",
            "uri:SPIFFE://prod/x", "spiffe://*", "spiffe://*/x", "spiffe://*.prod/x", "spiffe://prod*", "spiffe://prod/b*",
            "spiffe://prod/*/x", "spiffe://prod/**", "spiffe://prod//*", "spiffe://prod/../*", "spiffe://prod/./x",
            "spiffe://prod/a/..", "spiffe://prod/%61", "spiffe://prod/a?b", "spiffe://prod/a#b", "spiffe://a@prod/x",
            "spiffe://prod:1/x", "spiffe://prod/é", "spiffe://prod/a b", "spiffe://prod/a\n", "spiffe:/*", "spiffe:x",
            "uri:", "uri:https", "uri::x", "uri:https:", "uri:https://", "uri:https:///x", "uri:https://*/",
            "uri:https://*",
            "uri:x*y:z", "uri:https://*.example/x", "uri:https://a.example*", "uri:https://a.example/x*", "uri:https://a/*/b",
            "https://client.example/", "URI:https://a/",
        ],
    )  # fmt: skip
    def test_is_not_a_uri_entry(self, entry: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            PeerPolicy([entry])
        assert str(caught.value).startswith(repr(entry))

    @given(st.text(alphabet="abX.~-_/%2eE?#@:\\\n\0 ", max_size=20))
    @example("../x")
    @example("a\n")
    @example("")
    def test_below_is_below_however_it_is_read(self, rest: str) -> None:
        if allows("spiffe://prod/billing/*", uri=["spiffe://prod/billing/" + rest]):
            segments = rest.split("/")
            assert all(segments)
            assert not {".", ".."} & set(segments)
            assert not set(rest) & set("%?#@:\\\n\0 ")


class TestOthers:
    @pytest.mark.parametrize("entry", ["ip:192.0.2.7", "ip:2001:db8::7", "ip:2001:0DB8:0::7"])
    def test_addresses(self, entry: str) -> None:
        assert allows(entry, ip=["192.0.2.7", "2001:db8::7"])
        assert not allows(entry, ip=["192.0.2.70", "192.0.2.0/24", "192.0.2.7/32", "::ffff:192.0.2.7"])
        assert not allows(entry, dns=["192.0.2.7"], uri=["ip:192.0.2.7"])

    def test_email_exactly(self) -> None:
        assert allows("email:ops@client.example", email=["ops@client.example"])
        for other in ("Ops@client.example", "ops@client.example\n", "ops@client.example.evil", "xops@client.example"):
            assert not allows("email:ops@client.example", email=[other])
        assert not allows("email:ops@client.example", email=["óps@client.example"], uri=["ops@client.example"])

    @pytest.mark.parametrize("form", [LEAF, LEAF.upper(), ":".join(["A1"] * 32)])
    def test_fingerprints(self, form: str) -> None:
        assert allows(f"sha256:{form}")
        assert not allows(f"spki-sha256:{form}")
        assert not allows("sha256:" + "00" * 32)

    def test_key_fingerprints(self) -> None:
        assert allows(f"spki-sha256:{KEY}")
        assert not allows(f"sha256:{KEY}")

    @pytest.mark.parametrize(
        "entry",
        [
            "ip:", "ip:192.0.2", "ip:192.0.2.0/24", "ip:192.0.2.*", "ip:192.0.2.07", "ip:fe80::1%eth0", "ip:[::1]",
            "ip:1", "ip:\uff1192.0.2.7", "email:", "email:ops", "email:@", "email:ops@", "email:@x", "email:*@x",
            "email:ops@*",
            "email:a@b@c", "email:a@b c", "email:óps@x", "sha256:", "sha256:a1", f"sha256:{LEAF}a", f"sha256:{LEAF}\n",
            "sha256:" + "g1" * 32, "sha256:" + "*" * 64, f"sha1:{'a1' * 20}", f"md5:{'a1' * 16}", f"SHA256:{LEAF}",
            "spki-sha256:a1",
        ],
    )  # fmt: skip
    def test_refused(self, entry: str) -> None:
        with pytest.raises(ConfigurationError):
            PeerPolicy([entry])


class TestList:
    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "*",
            ":",
            "any",
            "all",
            "any-signed-by-ca",
            "client.example",
            "cn:x",
            "DNS:a.example",
            "Anonymous",
            " dns:a",
        ],
    )
    def test_words_that_are_not_entries(self, entry: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            PeerPolicy([entry])
        assert repr(entry) in str(caught.value)

    def test_an_entry_of_another_type_is_named_by_its_type(self) -> None:
        with pytest.raises(ConfigurationError, match="not int"):
            PeerPolicy(b"dns:a")

    def test_one_str_is_not_a_list(self) -> None:
        with pytest.raises(ConfigurationError, match="not one str"):
            PeerPolicy("dns:client.example")

    def test_empty(self) -> None:
        with pytest.raises(ConfigurationError, match="the list of peers is empty"):
            PeerPolicy([])

    def test_any_entry_is_enough_and_none_is_not(self) -> None:
        policy = PeerPolicy(["dns:a.example", "spiffe://prod/*", "ip:192.0.2.7"])
        assert policy.allows(peer(ip=["192.0.2.7"]))
        assert policy.allows(peer(uri=["spiffe://prod/x"]))
        assert not policy.allows(peer(dns=["b.example"]))
        assert not policy.allows(peer())

    @given(st.lists(_NAMES, min_size=1, max_size=4, unique=True), st.lists(_NAMES, max_size=4))
    @example([("dns", "a.example")], [("email", "a.example"), ("uri", "a.example"), ("ip", "a.example")])
    def test_a_name_is_allowed_for_its_own_kind_alone(
        self, listed: list[tuple[str, str]], names: list[tuple[str, str]]
    ) -> None:
        """Whatever else is on the list, and whatever else the certificate has."""
        policy = PeerPolicy(f"{kind}:{value}" for kind, value in listed)
        identity = peer(**{kind: [value for each, value in names if each == kind] for kind in _KINDS})
        assert policy.allows(identity) == (not set(listed).isdisjoint(names))
        assert not policy.allows(peer())

    @given(st.integers(0, 2), st.integers(0, 2), st.sampled_from(["uid", "gid"]), st.integers(0, 2))
    def test_a_process_is_allowed_by_its_numbers_alone(self, uid: int, gid: int, kind: str, number: int) -> None:
        process = PeerIdentity.of_process(uid, gid, number)
        assert PeerPolicy([f"{kind}:{number}"]).allows(process) == ({"uid": uid, "gid": gid}[kind] == number)
        assert not PeerPolicy([f"sha256:{LEAF}", f"spki-sha256:{KEY}", "dns:*.example", "uri:urn:x"]).allows(process)

    def test_a_process_of_an_unknown_group_is_of_none(self) -> None:
        process = PeerIdentity(uid=0)
        assert PeerPolicy(["uid:0"]).allows(process)
        assert not any(PeerPolicy([f"gid:{number}"]).allows(process) for number in (0, 1, 2**32 - 1))

    def test_nobody_is_not_allowed(self) -> None:
        assert not PeerPolicy(["dns:a.example"]).allows(None)
        assert not PeerPolicy.any_signed_by_ca().allows(None)

    def test_anonymous_is_for_nobody_else(self) -> None:
        policy = PeerPolicy(["anonymous"])
        assert policy.allows(None)
        assert policy.allows_anonymous
        assert not policy.allows(peer(dns=["anonymous"], subject="anonymous"))
        assert not policy.allows(peer())

    def test_anybody_with_a_certificate_only_in_words(self) -> None:
        policy = PeerPolicy.any_signed_by_ca()
        assert policy.allows(peer())
        assert not policy.allows_anonymous
        assert not policy.replaces_host_name
        assert repr(policy) == "PeerPolicy.any_signed_by_ca()"

    def test_takes_an_iterator_once_and_is_not_changed_by_the_list(self) -> None:
        entries = ["dns:a.example"]
        policy = PeerPolicy(iter(entries))
        entries.append("dns:b.example")
        for _ in range(2):
            assert policy.allows(peer(dns=["a.example"]))
        assert not policy.allows(peer(dns=["b.example"]))
        with pytest.raises(AttributeError):
            policy.extra = 1

    def test_repr_is_the_list(self) -> None:
        entries = ["dns:a.example", "spiffe://prod/a", "spiffe://prod/*", "uri:urn:x", "anonymous"]
        assert repr(PeerPolicy(entries)) == f"PeerPolicy({entries!r})"
        assert PeerPolicy(entries).entries == tuple(entries)
        assert not PeerPolicy(entries).names_processes


class TestReplacesHostName:
    @pytest.mark.parametrize("entry", ["spiffe://prod/*", "uri:https://a/", f"sha256:{LEAF}", f"spki-sha256:{KEY}"])
    def test_every_entry_is_a_uri_or_a_fingerprint(self, entry: str) -> None:
        assert PeerPolicy([entry]).replaces_host_name
        assert PeerPolicy([entry, f"sha256:{LEAF}"]).replaces_host_name

    @pytest.mark.parametrize("entry", ["dns:a.example", "ip:192.0.2.7", "email:a@b", "anonymous"])
    def test_one_other_entry_is_enough_for_the_host_name_to_count(self, entry: str) -> None:
        assert not PeerPolicy([entry]).replaces_host_name
        assert not PeerPolicy(["spiffe://prod/*", entry]).replaces_host_name


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("client.example", "dns:client.example"),
        ("localhost", "dns:localhost"),
        ("192.0.2.7", "ip:192.0.2.7"),
        ("user@example.org", "email:user@example.org"),
    ],
)
def test_what_a_bare_name_may_stand_for(text: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"; did you mean '{meant}'? an entry is ")):
        PeerPolicy([text])


def test_what_stands_for_nothing() -> None:
    for text in ("dns=client.example", "client_of_x:1", "mail:user@example.org", "*"):
        with pytest.raises(ConfigurationError) as refused:
            PeerPolicy([text])
        assert f"{text!r} is not an entry for a list of peers; an entry is " in str(refused.value)
