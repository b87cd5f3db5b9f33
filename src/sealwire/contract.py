"""The declared types of a handler's messages and replies, compiled into checks when its server is made.

A message of another type is refused before the handler runs, and a reply of another type is the handler's failure.
Without a declaration nothing is checked: then ``decode`` and ``encode`` are the codec's own functions.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Final, NewType, Union, get_args, get_origin

from sealwire.codec import Codec
from sealwire.errors import ConfigurationError, EncodeError, InvalidValue, LimitExceeded, TypeNotAllowed
from sealwire.pickling.adapters import qualified_name
from sealwire.pickling.adapters.record import described
from sealwire.pickling.annotations import Types
from sealwire.pickling.signatures import Signature, signatures_of
from sealwire.pickling.type_checks import Check, Examining, Mismatch
from sealwire.security import Security
from sealwire.wire.frames import Payload, VerifiedPayload

_Encode = Callable[[Any], Payload]
_HINT: Final = (
    ", or make the list of what handlers declare: Allowlist.from_handler, or handlers = […] under [allowlist]"
)


class UndeclaredMessage(TypeNotAllowed):
    """A message of a type that is on the allowlist, but that its handler does not take."""

    reason = "undeclared"
    told = "the service takes no message of this type"
    """The text of its FAULT."""


class Operation:
    """One function of a handler.

    Args:
        signature: The types that it declares.
        security: The server's Security.

    Raises:
        ConfigurationError: A declared type is not on the allowlist.

    Attributes:
        check: The check of its messages; None if it declares none.
        encode: Returns the payload of a reply. Raises EncodeError.
        encode_part: Returns the payload of a part of a reply. Raises EncodeError.
    """

    def __init__(self, signature: Signature, security: Security) -> None:
        self.signature: Final = signature
        self._steps: Final = security.limits.max_expanded_nodes
        received, sent = _types(security)
        place = f"parameter {signature.parameter} of {signature.name}"
        self.check: Final = self._compiled(signature.message, received, place)
        self.encode: Final = self._checked(signature.reply, sent, security.codec.encode_pieces)
        self.encode_part: Final = (
            self.encode if signature.part is None else self._checked(signature.part, sent, security.codec.encode_pieces)
        )

    def verify(self, message: Any) -> None:
        """Raise DecodeError if a message is not of the declared type."""
        check = self.check
        if check is None or type(message) in check.exact_types:
            return
        mismatch = self._mismatch(check, message)
        if mismatch is None:
            return
        text = f"{described(mismatch)}; declared by {self.signature.name}"
        if not mismatch.path and type(message) not in check.container_types:
            raise UndeclaredMessage(f"{self.signature.parameter}: {text}")
        error = InvalidValue(text)
        error.inside(*mismatch.path)
        raise error

    def _compiled(self, annotation: Any, types: Types, place: str) -> Check | None:
        return None if annotation is Any else types.check(annotation, place, module=self.signature.module)

    def _mismatch(self, check: Check, value: Any) -> Mismatch | None:
        """Return how a value differs from its annotation. Raises LimitExceeded."""
        try:
            with Examining(self._steps):
                check.check_value(value)
        except Mismatch as mismatch:
            return mismatch
        except RecursionError:
            raise LimitExceeded("max_depth: nested too deeply for the space that is left on Python's stack") from None
        return None

    def _checked(self, annotation: Any, types: Types, encode: _Encode) -> _Encode:
        """Return a function that checks a reply and encodes it."""
        check = self._compiled(annotation, types, f"the reply of {self.signature.name}")
        if check is None:
            return encode
        exact_types, name = check.exact_types, self.signature.name

        def check_and_encode(reply: Any) -> Payload:
            if type(reply) in exact_types:
                return encode(reply)
            payload = encode(reply)  # first: it bounds the reply, in which there may be cycles
            try:
                mismatch = self._mismatch(check, reply)
            except LimitExceeded as error:
                raise EncodeError(f"reply: {error}", over_limit=True) from None
            if mismatch is not None:
                where = "".join(("reply", *reversed(mismatch.path)))
                raise EncodeError(f"{where}: {described(mismatch)}; declared by {name}")
            return payload

        return check_and_encode


class Contract:
    """The types that one handler declares, for one server.

    Args:
        handler: A class derived from RequestHandler. If it has the attribute ``chooses`` set, the type of a message
            chooses among its functions (Service).
        security: The server's Security.

    Raises:
        ConfigurationError: A declared type is not on the allowlist, or the type of a message would not choose one
            function.

    Attributes:
        decode: Returns the message in a payload. Raises DecodeError.
        decode_part: Returns a part of a message in parts. Raises DecodeError.
        encode: Returns the payload of a reply. Raises EncodeError.
        encode_part: Returns the payload of a part of a reply. Raises EncodeError.
    """

    def __init__(self, handler: type[Any], security: Security) -> None:
        self._plain = security.decode
        self.decode = self.decode_part = security.decode
        self.encode: _Encode = security.codec.encode_pieces
        self.encode_part: _Encode = self.encode
        try:
            operations = [Operation(signature, security) for signature in signatures_of(handler)]
            self._in_parts = self._taking_parts(operations)
            self._by_type: Final[dict[type, Operation]] = {}
            if getattr(handler, "chooses", False):
                self._by_type.update(_by_type([each for each in operations if each is not self._in_parts]))
        except ConfigurationError as error:
            missing = str(error).endswith("allow it as well")
            raise ConfigurationError(f"{error}{_HINT if missing else ''}") from None
        self._names = ", ".join(each.signature.name for each in operations)
        self._only: Operation | None = None
        if self._by_type or self._in_parts is not None:
            self.decode = self._decode_chosen
        elif operations and operations[0].check is not None:
            self._only = operations[0]
            self.decode = self._decode_checked(self._only)
        if operations and not self._by_type:
            self.encode, self.encode_part = operations[0].encode, operations[0].encode_part
        self._takes_parts = not self._by_type and not any(each.check for each in operations)
        if self._in_parts is not None:
            self._takes_parts = True
            self.decode_part = self._decode_checked(self._in_parts)

    def expect_parts(self) -> None:
        """Raise UndeclaredMessage for a message in parts that the handler declares otherwise."""
        if not self._takes_parts:
            raise UndeclaredMessage(f"{self._names}: not declared for a message in parts")

    def encoders(self, message: Any) -> tuple[_Encode, _Encode]:
        """Return the functions that encode the reply to a decoded message, and its parts."""
        if not self._by_type:
            return self.encode, self.encode_part
        operation = self.operation(message)
        return operation.encode, operation.encode_part

    def verify(self, message: Any) -> None:
        """Raise DecodeError if the handler does not take a message, one that was not decoded but made here."""
        if self._only is not None:
            self._only.verify(message)
        elif self._by_type or self._in_parts is not None:
            self.operation(message).verify(message)

    def verify_part(self, part: Any) -> None:
        """Raise DecodeError if the handler does not take a part of a message, one that was made here."""
        if self._in_parts is not None:
            self._in_parts.verify(part)

    def operation(self, message: Any) -> Operation:
        """Return the function that a decoded message chooses; one that is not a value is the parts of a message."""
        found = self._by_type.get(type(message), self._in_parts)
        if found is None:
            raise self._undeclared(message)
        return found

    def _decode_chosen(self, payload: VerifiedPayload) -> Any:
        root = "message"
        try:
            message = self._plain(payload)
            operation = self._by_type.get(type(message))
            if operation is None:
                raise self._undeclared(message)
            root = operation.signature.parameter
            operation.verify(message)
        except InvalidValue as error:
            error.root = root
            raise
        return message

    def _undeclared(self, message: Any) -> UndeclaredMessage:
        return UndeclaredMessage(f"{self._names}: not declared for a message of type {qualified_name(type(message))}")

    def _decode_checked(self, operation: Operation) -> Callable[[VerifiedPayload], Any]:
        plain, verify, root = self._plain, operation.verify, operation.signature.parameter

        def decode(payload: VerifiedPayload) -> Any:
            try:
                message = plain(payload)
                verify(message)
            except InvalidValue as error:
                error.root = root
                raise
            return message

        return decode

    @staticmethod
    def _taking_parts(operations: Iterable[Operation]) -> Operation | None:
        """Return the function that takes its message in parts."""
        found = [each for each in operations if each.signature.takes_parts]
        if len(found) > 1:
            names = " and ".join(each.signature.name for each in found)
            raise ConfigurationError(f"{names}: only one function of a service can take a message in parts")
        return found[0] if found else None


def contract_of(handler: type[Any], security: Security) -> Contract:
    """Return the contract of a handler under a pinned Security, made once. Raises ConfigurationError."""
    return security.once(("contract", handler), lambda pinned: Contract(handler, pinned))


def _types(security: Security) -> tuple[Types, Types]:
    """Return the types of messages that can be received, and sent."""
    codec = security.codec
    if isinstance(codec, Codec):
        return codec.allowlist.types(), codec.allowlist.types(encoded=True)
    return _plain((bytes,)), _plain((bytes, bytearray, memoryview))


def _plain(types: Iterable[type]) -> Types:
    return Types(types, (), lambda _: {}, lambda *_: None)


def _by_type(operations: list[Operation]) -> dict[type, Operation]:
    """Return the function for each exact type of messages. Raises ConfigurationError."""
    for each in operations:
        if each.check is None:
            raise ConfigurationError(
                f"{each.signature.name}: annotate its parameter {each.signature.parameter}: the declared type of a "
                "message chooses the method (a method that is none for messages has a name that begins with _)"
            )
    checked = {each: each.check.container_types for each in operations if each.check is not None}
    kinds = dict.fromkeys(kind for types in checked.values() for kind in types)
    return {kind: _chosen(kind, [each for each in operations if kind in checked[each]]) for kind in kinds}


def _chosen(kind: type, able: list[Operation]) -> Operation:
    """Return the one function that takes values of a type, or the one that declares its nearest base."""
    for base in kind.__mro__ if len(able) > 1 else ():
        naming = [each for each in able if base in set(_classes(each.signature.message))]
        if naming:
            able = naming
            break
    if len(able) > 1:
        names = " and ".join(each.signature.name for each in able)
        raise ConfigurationError(
            f"{names} both take messages of type {qualified_name(kind)}; declare types that tell them apart"
        )
    return able[0]


def _classes(annotation: Any) -> Iterable[type]:
    """Yield the classes that an annotation names for whole values."""
    annotation = getattr(annotation, "__value__", annotation)  # `type X = …` of Python 3.12
    if isinstance(annotation, NewType):
        annotation = annotation.__supertype__
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for each in get_args(annotation):
            yield from _classes(each)
    elif origin is Annotated:
        yield from _classes(get_args(annotation)[0])
    elif origin is typing.Literal:
        yield from map(type, get_args(annotation))
    else:
        yield dict if typing.is_typeddict(origin or annotation) else (origin or annotation)
