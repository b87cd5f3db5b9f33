"""The closed set of opcodes, and the use that a message may make of each.

These are the opcodes that CPython's pickler writes for accepted values at protocols 2 to 5; ``pickletools`` documents
the full language. All others are refused, among them INST, OBJ, PERSID, EXT1 to EXT4 (which reach classes without
``find_class``), POP, POP_MARK and DUP (which only cyclic values need), the text opcodes of protocol 0, and NEXT_BUFFER.

==================================  ==================================================================================
PROTO                               first, once; the protocol is 2 to 5
FRAME                               from protocol 4; not inside a frame; no opcode crosses its end
STOP                                last: no byte, open mark or second object remains
NONE NEWTRUE NEWFALSE EMPTY_TUPLE   push a leaf
BININT BININT1 BININT2 BINFLOAT     push a leaf
LONG1 LONG4                         push a leaf of at most ``max_integer_bits``
SHORT_BINUNICODE BINUNICODE[8]      push a leaf of at most ``max_string`` bytes, no lone surrogate
[SHORT_]BINBYTES[8]                 push a leaf of at most ``max_string`` bytes
BYTEARRAY8                          push a new bytearray, at most ``max_string`` bytes
EMPTY_LIST EMPTY_DICT EMPTY_SET     push a new container, open for items
MARK                                begins the items of TUPLE, FROZENSET, APPENDS, SETITEMS or ADDITEMS
TUPLE FROZENSET                     push a container of the items since the mark
APPENDS SETITEMS ADDITEMS           items into an open list, dict, set below the mark (or a new deque, OrderedDict, …)
APPEND SETITEM                      one item, without a mark
TUPLE1 TUPLE2 TUPLE3                like TUPLE, without a mark
MEMOIZE BINPUT LONG_BINPUT          store the top under the next memo index; an index is never skipped or reused
BINGET LONG_BINGET                  push the stored entry, and close it for further items
GLOBAL STACK_GLOBAL                 push an entry of the table of globals; it is not a value
REDUCE                              call a global with a tuple, as its rule permits
NEWOBJ                              a new instance of a class of the table, without arguments or with a tuple of them
BUILD                               state, once, for an instance just made, or the result of a call that takes state
==================================  ==================================================================================
"""

from __future__ import annotations

from typing import Final

PROTO: Final = 0x80
FRAME: Final = 0x95
STOP: Final = 0x2E

NONE: Final = 0x4E
NEWTRUE: Final = 0x88
NEWFALSE: Final = 0x89
EMPTY_TUPLE: Final = 0x29
BININT: Final = 0x4A
BININT1: Final = 0x4B
BININT2: Final = 0x4D
BINFLOAT: Final = 0x47
LONG1: Final = 0x8A
LONG4: Final = 0x8B
SHORT_BINUNICODE: Final = 0x8C
BINUNICODE: Final = 0x58
BINUNICODE8: Final = 0x8D
SHORT_BINBYTES: Final = 0x43
BINBYTES: Final = 0x42
BINBYTES8: Final = 0x8E
BYTEARRAY8: Final = 0x96

EMPTY_LIST: Final = 0x5D
EMPTY_DICT: Final = 0x7D
EMPTY_SET: Final = 0x8F
MARK: Final = 0x28
TUPLE: Final = 0x74
TUPLE1: Final = 0x85
TUPLE2: Final = 0x86
TUPLE3: Final = 0x87
FROZENSET: Final = 0x91
APPEND: Final = 0x61
APPENDS: Final = 0x65
SETITEM: Final = 0x73
SETITEMS: Final = 0x75
ADDITEMS: Final = 0x90

MEMOIZE: Final = 0x94
BINPUT: Final = 0x71
LONG_BINPUT: Final = 0x72
BINGET: Final = 0x68
LONG_BINGET: Final = 0x6A

GLOBAL: Final = 0x63
STACK_GLOBAL: Final = 0x93
REDUCE: Final = 0x52
NEWOBJ: Final = 0x81
BUILD: Final = 0x62

_FIXED_LEAVES: Final = {
    NONE: 1, NEWTRUE: 1, NEWFALSE: 1, EMPTY_TUPLE: 1,
    BININT1: 2, BININT2: 3, BININT: 5, BINFLOAT: 9,
}  # fmt: skip
# Groups of opcodes that one method of the vetting pass handles; negative, for DISPATCH to tell them from lengths.
HAS_LENGTH: Final = -1
OPENS_CONTAINER: Final = -2
SETS_ITEMS: Final = -3
ADDS_ITEMS: Final = -4
MAKES_CONTAINER: Final = -5
_GROUPS: Final = {
    **dict.fromkeys(
        (LONG1, LONG4, BINUNICODE, BINUNICODE8, SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8), HAS_LENGTH
    ),
    **dict.fromkeys((EMPTY_LIST, EMPTY_DICT), OPENS_CONTAINER),
    **dict.fromkeys((SETITEM, SETITEMS), SETS_ITEMS),
    **dict.fromkeys((APPEND, APPENDS, ADDITEMS), ADDS_ITEMS),
    **dict.fromkeys((EMPTY_SET, TUPLE, TUPLE1, TUPLE2, TUPLE3, FROZENSET), MAKES_CONTAINER),
}

DISPATCH: Final = [(_FIXED_LEAVES | _GROUPS).get(opcode, 0) for opcode in range(256)]
"""Opcode to its length including its argument, for leaves of a fixed size; otherwise to a group above, or to 0."""

_CONSTANTS: Final = {name: value for name, value in globals().copy().items() if isinstance(value, int)}
OPCODE_NAMES: Final = {value: name for name, value in _CONSTANTS.items() if value > 0}
"""Opcode to name, for error messages."""
