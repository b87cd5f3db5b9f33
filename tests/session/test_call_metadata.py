"""The metadata of one call of a client."""

from __future__ import annotations

from typing import Any

import pytest

from sealwire.errors import ConfigurationError, FeatureNotSupported
from sealwire.session.call_metadata import CallMetadata, call_metadata_of, sendable
from sealwire.wire.features import Features
from support.session import ADDRESS

TRACE = {"traceparent": "00-1", "tracestate": "a=b", "baggage": "c=d"}


class TestEnvelope:
    def test_has_what_is_sent(self) -> None:
        assert CallMetadata({"a": "b"}, None).metadata == {"a": "b"}

    @pytest.mark.parametrize("nothing", [None, {}])
    def test_without_metadata(self, nothing: Any) -> None:
        assert CallMetadata(nothing, None).metadata is None

    @pytest.mark.parametrize("bad", [{"": "x"}, {"a b": "x"}, {"a": 1}, {"a": "x" * 100_000}])
    def test_metadata_that_cannot_be_sent(self, bad: Any) -> None:
        with pytest.raises(ConfigurationError):
            CallMetadata(bad, None)

    @pytest.mark.parametrize("bad", [[], "metadata", 1])
    def test_a_place_for_the_replys_that_is_none(self, bad: Any) -> None:
        with pytest.raises(ConfigurationError, match="reply_metadata must be a dict, which is filled"):
            CallMetadata(None, bad)

    @pytest.mark.parametrize(("received", "left"), [({"c": "d"}, {"c": "d"}), ({}, {}), (None, {})])
    def test_the_replys_takes_the_place_of_what_was_there(self, received: Any, left: Any) -> None:
        place = {"a": "of another call"}
        CallMetadata(None, place).receive(received)
        assert place == left

    def test_nobody_wants_the_replys(self) -> None:
        CallMetadata({"a": "b"}, None).receive({"c": "d"})


class TestEnvelopeOf:
    def test_a_call_without_metadata_has_none(self) -> None:
        assert call_metadata_of(None, None) is None

    def test_either_is_enough(self) -> None:
        place: dict[str, str] = {}
        sends, receives, both = (
            call_metadata_of({"a": "b"}, None),
            call_metadata_of(None, place),
            call_metadata_of({"c": "d"}, place),
        )
        assert sends is not None
        assert receives is not None
        assert both is not None
        assert (sends.metadata, receives.metadata, both.metadata) == ({"a": "b"}, None, {"c": "d"})
        receives.receive({"1": "2"})
        assert place == {"1": "2"}
        both.receive({"3": "4"})
        assert place == {"3": "4"}

    def test_an_empty_dict_is_a_place(self) -> None:
        assert call_metadata_of({}, None) is not None


class TestSendable:
    @pytest.mark.parametrize("metadata", [None, {"a": "b"}, TRACE])
    def test_to_a_server_with_the_feature(self, metadata: Any) -> None:
        assert sendable(metadata, Features(metadata=True), ADDRESS) is metadata

    @pytest.mark.parametrize("metadata", [None, {}])
    def test_nothing_needs_no_feature(self, metadata: Any) -> None:
        assert sendable(metadata, Features(), ADDRESS) is metadata

    @pytest.mark.parametrize("metadata", [TRACE, {"traceparent": "00-1"}, {"baggage": "c=d"}])
    def test_a_trace_is_left_out(self, metadata: Any) -> None:
        assert sendable(metadata, Features(), ADDRESS) is None

    @pytest.mark.parametrize("metadata", [{"a": "b"}, TRACE | {"a": "b"}])
    def test_anything_else_is_an_error(self, metadata: Any) -> None:
        with pytest.raises(FeatureNotSupported, match=f"{ADDRESS} takes no metadata"):
            sendable(metadata, Features(), ADDRESS)
