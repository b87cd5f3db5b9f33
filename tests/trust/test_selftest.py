"""Credentials that must not replace those in service."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sealwire.errors import ConfigurationError
from sealwire.trust.certificates import Certificates
from sealwire.trust.selftest import chain_problem, is_complete, is_revoked, validate
from support.certificates import CLIENT, DAY, SERVER, Made, make, make_ca, make_crl, raw_names

HOUR = timedelta(hours=1)
EMAIL, DNS, URI, IP = 1, 2, 6, 7


@pytest.fixture(scope="module")
def between(ca: Made) -> Made:
    return make_ca("between", issuer=ca)


@pytest.fixture(scope="module")
def own(between: Made) -> Made:
    return make("a.example", issuer=between)


def loaded(own: Made | None, *anchors: Made, crl: bytes | None = None, chain: bytes = b"") -> Certificates:
    contents = {"ca": b"".join(each.pem for each in anchors)}
    if own is not None:
        contents |= {"cert": own.pem + chain, "key": own.key_pem}
    if crl is not None:
        contents["crl"] = crl
    return Certificates.parse(contents, {part: Path(f"{part}.pem") for part in contents}, None)


def refusal(new: Certificates, previous: Certificates) -> str:
    with pytest.raises(ConfigurationError) as caught:
        validate(new, previous)
    return str(caught.value)


class TestChain:
    @pytest.mark.parametrize("uses", [[SERVER], [CLIENT], [SERVER, CLIENT]])
    def test_builds(self, ca: Made, uses: list[x509.ObjectIdentifier]) -> None:
        assert chain_problem(loaded(make("a.example", issuer=ca, uses=uses), ca)) is None

    @pytest.mark.parametrize("uses", [[SERVER], [CLIENT]])
    def test_of_another_ca(self, ca: Made, uses: list[x509.ObjectIdentifier]) -> None:
        own = make("a.example", issuer=make_ca("other"), uses=uses)
        assert chain_problem(loaded(own, ca)) == "unable to get local issuer certificate"

    def test_without_the_intermediate(self, ca: Made) -> None:
        between = make_ca("between", issuer=ca)
        own = make("a.example", issuer=between)
        assert chain_problem(loaded(own, ca)) is not None
        assert chain_problem(loaded(own, ca, chain=between.pem)) is None

    def test_without_the_list_of_its_ca(self, ca: Made, own: Made, between: Made) -> None:
        problem = chain_problem(loaded(own, ca, chain=between.pem, crl=make_crl(ca)))
        assert problem is not None
        assert problem.startswith(
            "unable to get certificate CRL: crl.pem has no revocation list of the CA that issued it"
        )

    def test_without_a_certificate(self, ca: Made) -> None:
        assert chain_problem(loaded(None, ca)) is None


class TestComplete:
    def test_a_chain_to_roots_alone_is(self, ca: Made, own: Made, between: Made) -> None:
        assert is_complete(loaded(own, ca, chain=between.pem))
        assert is_complete(loaded(make("a.example", issuer=ca), ca))

    def test_a_certificate_of_another_ca_lacks_nothing(self, ca: Made, between: Made) -> None:
        assert is_complete(loaded(make("a.example", issuer=make_ca("other")), ca, between))

    def test_without_a_certificate_nothing_is_lacking(self, ca: Made, between: Made) -> None:
        assert is_complete(loaded(None, ca, between))


class TestRevoked:
    def test_without_a_certificate_nothing_is_revoked(self, ca: Made, own: Made) -> None:
        assert not is_revoked(loaded(None, ca, crl=make_crl(ca, own)))

    @pytest.mark.parametrize("uses", [[SERVER], [CLIENT]])
    @pytest.mark.parametrize("revoked", ["leaf", "between", None])
    def test_the_leaf_or_one_above_it(
        self, ca: Made, between: Made, uses: list[x509.ObjectIdentifier], revoked: str | None
    ) -> None:
        own = make("a.example", issuer=between, uses=uses)
        of_ca, of_between = ([each] if name == revoked else [] for name, each in (("between", between), ("leaf", own)))
        lists = make_crl(ca, *of_ca) + make_crl(between, *of_between)
        assert is_revoked(loaded(own, ca, chain=between.pem, crl=lists)) is (revoked is not None)


class TestReplacing:
    def test_a_first_certificate_may_be_of_another_ca(self, ca: Made) -> None:
        other = make_ca("other")
        validate(loaded(make("a.example", issuer=other), ca), None)
        validate(loaded(make("a.example", issuer=other), ca), loaded(make("a.example", issuer=other), ca))

    def test_a_certificate_may_come_or_go(self, ca: Made) -> None:
        nobody, somebody = loaded(None, ca), loaded(make("a.example", issuer=ca, uses=[SERVER]), ca)
        validate(somebody, nobody)
        validate(nobody, somebody)

    def test_the_chain_is_not_lost(self, ca: Made) -> None:
        new = loaded(make("a.example", issuer=make_ca("other")), ca)
        message = refusal(new, loaded(make("a.example", issuer=ca), ca))
        assert message.startswith("cert.pem: the certificate does not build to the trust anchors in ca.pem (unable to ")

    @pytest.mark.parametrize(("new", "lost"), [([SERVER], "clients"), ([CLIENT], "servers")])
    def test_a_role_is_not_lost(self, ca: Made, new: list[x509.ObjectIdentifier], lost: str) -> None:
        both = loaded(make("a.example", issuer=ca), ca)
        less = loaded(make("a.example", issuer=ca, uses=new), ca)
        assert f"cert.pem: the certificate is not for TLS {lost}, unlike" in refusal(less, both)
        validate(both, less)

    @pytest.mark.parametrize(
        ("old", "new", "lost"),
        [
            (["a.example", "b.example"], ["b.example"], "'a.example'"),
            (["a.example", "uri:x"], ["a.example"], "'uri:x'"),
            (["a.example"], ["*.a.example"], "'a.example'"),
            (["*.example"], ["a.example"], r"'*.example'"),
        ],
    )
    def test_a_name_is_not_lost(self, ca: Made, old: list[str], new: list[str], lost: str) -> None:
        message = refusal(loaded(make(*new, issuer=ca), ca), loaded(make(*old, issuer=ca), ca))
        assert f"cert.pem: the certificate lacks 1 of the names of the one in service, such as {lost}" in message

    @pytest.mark.parametrize(
        ("old", "new", "count", "lost"),
        [
            ([(IP, b"\x0a\0\0\1"), (DNS, b"a")], [(DNS, b"a")], 1, "'10.0.0.1'"),
            ([(EMAIL, b"a@b"), (DNS, b"a")], [(DNS, b"a")], 1, "'a@b'"),
            ([(DNS, b"a"), (DNS, b"b"), (URI, b"x:y")], [(URI, b"b")], 3, "'a'"),
        ],
    )  # fmt: skip
    def test_a_name_of_any_kind_is_not_lost(
        self, ca: Made, old: list[tuple[int, bytes]], new: list[tuple[int, bytes]], count: int, lost: str
    ) -> None:
        before, after = (loaded(make(issuer=ca, raw_san=raw_names(*names)), ca) for names in (old, new))
        assert f"lacks {count} of the names of the one in service, such as {lost}" in refusal(after, before)
        validate(before, before)

    @pytest.mark.parametrize("new", [["a.b.example", "c.example"], ["*.b.example"]])
    def test_a_name_may_come_or_be_covered(self, ca: Made, new: list[str]) -> None:
        validate(loaded(make(*new, issuer=ca), ca), loaded(make("a.b.example", issuer=ca), ca))


class TestEverybodyElse:
    """Files that would have all peers of the own CA refused are rejected; the leaf in service is the example."""

    def test_another_ca_alone(self, ca: Made) -> None:
        own = make("a.example", issuer=ca)
        message = refusal(loaded(own, make_ca("other")), loaded(own, ca))
        assert message.startswith(
            "ca.pem: the certificate in cert.pem does not build to these trust anchors (unable to"
        )

    def test_the_same_name_with_another_key(self, ca: Made) -> None:
        own = make("a.example", issuer=ca)
        assert "ca.pem: the certificate in cert.pem" in refusal(loaded(own, make_ca()), loaded(own, ca))

    def test_a_bundle_cut_between_two(self, ca: Made) -> None:
        other, own = make_ca("other"), make("a.example", issuer=ca)
        assert "ca.pem: the certificate in cert.pem" in refusal(loaded(own, other), loaded(own, other, ca))

    @pytest.mark.parametrize("times", [{"start": -2 * DAY, "end": -HOUR}, {"start": HOUR}])
    def test_a_ca_that_is_not_valid(self, ca: Made, times: dict[str, timedelta]) -> None:
        """Beside one that is, but of other peers."""
        own, other = make("a.example", issuer=ca), make_ca("other")
        same = make(common_name="CA", ca=True, key=ca.key, **times)
        assert "ca.pem: the certificate in cert.pem does not" in refusal(loaded(own, same, other), loaded(own, ca))
        validate(loaded(own, same, ca), loaded(own, ca))

    def test_a_chain_without_its_intermediate(self, ca: Made, own: Made, between: Made) -> None:
        """Of the leaf that is in service."""
        message = refusal(loaded(own, ca), loaded(own, ca, chain=between.pem))
        assert message.startswith("cert.pem: the certificate does not build")

    def test_an_intermediate_that_only_the_anchors_have(self, ca: Made, own: Made, between: Made) -> None:
        whole = loaded(own, ca, between, chain=between.pem)
        part = loaded(own, ca, between)
        assert chain_problem(part) is None
        assert (is_complete(whole), is_complete(part)) == (True, False)
        assert "lacks an intermediate certificate that only ca.pem has" in refusal(part, whole)
        validate(part, part)
        validate(whole, part)

    def test_the_list_of_the_issuing_intermediate(self, ca: Made, own: Made, between: Made) -> None:
        both = loaded(own, ca, chain=between.pem, crl=make_crl(ca) + make_crl(between))
        less = loaded(own, ca, chain=between.pem, crl=make_crl(ca))
        assert "the revocation list of CN=between is missing" in refusal(less, both)

    def test_a_list_that_nobody_can_use(self, ca: Made, own: Made, between: Made) -> None:
        """For certificates with a certain distribution point, and the own one has none."""
        point = x509.IssuingDistributionPoint(
            [x509.UniformResourceIdentifier("http://ca.example")], None, False, False, None, False, False
        )
        part = loaded(own, ca, chain=between.pem, crl=make_crl(between, extensions=[(point, True)]))
        message = refusal(part, loaded(own, ca, chain=between.pem, crl=make_crl(between)))
        assert message.startswith("crl.pem: with these revocation lists the certificate in cert.pem would be refused (")

    def test_a_list_with_the_own_leaf_is_taken(self, ca: Made, own: Made, between: Made) -> None:
        """It revokes others, too."""
        validate(
            loaded(own, ca, chain=between.pem, crl=make_crl(between, own)),
            loaded(own, ca, chain=between.pem, crl=make_crl(between)),
        )

    def test_another_leaf_on_a_list_is_not_taken(self, ca: Made) -> None:
        """Unless the one in service is on it as well."""
        one, two = make("a.example", issuer=ca), make("a.example", issuer=ca)
        for revoked in ([two], [one, two]):
            crl = make_crl(ca, *revoked)
            new, previous = loaded(two, ca, crl=crl), loaded(one, ca, crl=make_crl(ca))
            if one in revoked:
                validate(new, previous)
            else:
                assert (
                    "cert.pem: the certificate, or that of a CA above it, is on a revocation list in crl.pem"
                    in refusal(new, previous)
                )

    @pytest.mark.parametrize("shown", [True, False])
    def test_another_leaf_of_a_revoked_ca_is_not_taken(self, ca: Made, own: Made, between: Made, shown: bool) -> None:
        """Its chain may have that CA, or the trust anchors alone. The same leaf with such a chain is refused, too."""
        fresh = make("a.example", issuer=ca)
        lists = make_crl(ca, between) + make_crl(between)
        cross = make_ca("between", issuer=ca, key=between.key)

        def chained(leaf: Made, above: Made, crl: bytes) -> Certificates:
            return loaded(leaf, ca, *([] if shown else [above]), chain=above.pem if shown else b"", crl=crl)

        for new, previous in (
            (chained(own, between, lists), loaded(fresh, ca, crl=make_crl(ca))),
            (chained(own, between, lists), chained(own, cross, make_crl(ca) + make_crl(between))),
        ):
            assert "that of a CA above it, is on a revocation list in crl.pem" in refusal(new, previous)
        validate(chained(own, between, lists), chained(own, between, make_crl(ca) + make_crl(between)))

    def test_peers_of_another_ca_may_get_yet_another(self, ca: Made) -> None:
        own = make("a.example", issuer=ca)
        validate(loaded(own, make_ca("third")), loaded(own, make_ca("second")))


class TestRevocationLists:
    def test_the_list_of_a_trusted_ca_is_not_lost(self, ca: Made) -> None:
        other = make_ca("other")
        both = loaded(None, ca, other, crl=make_crl(ca) + make_crl(other))
        message = refusal(loaded(None, ca, other, crl=make_crl(ca)), both)
        assert message.startswith("crl.pem: the revocation list of CN=other is missing, so every peer")

    @pytest.mark.parametrize("trusted", [True, False])
    def test_it_goes_with_its_ca(self, ca: Made, trusted: bool) -> None:
        other = make_ca("other")
        both = loaded(None, ca, other, crl=make_crl(ca) + make_crl(other))
        left: dict[str, Any] = {"crl": make_crl(ca) + (make_crl(other) if trusted else b"")}
        validate(loaded(None, ca, **left), both)
