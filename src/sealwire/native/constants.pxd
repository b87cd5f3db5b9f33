# What the reference has in pickling/opcodes.py, globals.py, nodes.py, calls.py and dict_keys.py, under the same names.
# A test compares them.

cdef enum:
    PIECE = 8192
    # Opcodes
    PROTO = 0x80
    FRAME = 0x95
    STOP = 0x2E
    NONE = 0x4E
    NEWTRUE = 0x88
    NEWFALSE = 0x89
    EMPTY_TUPLE = 0x29
    BININT = 0x4A
    BININT1 = 0x4B
    BININT2 = 0x4D
    BINFLOAT = 0x47
    LONG1 = 0x8A
    LONG4 = 0x8B
    SHORT_BINUNICODE = 0x8C
    BINUNICODE = 0x58
    BINUNICODE8 = 0x8D
    SHORT_BINBYTES = 0x43
    BINBYTES = 0x42
    BINBYTES8 = 0x8E
    BYTEARRAY8 = 0x96
    EMPTY_LIST = 0x5D
    EMPTY_DICT = 0x7D
    EMPTY_SET = 0x8F
    MARK = 0x28
    TUPLE = 0x74
    TUPLE1 = 0x85
    TUPLE2 = 0x86
    TUPLE3 = 0x87
    FROZENSET = 0x91
    APPEND = 0x61
    APPENDS = 0x65
    SETITEM = 0x73
    SETITEMS = 0x75
    ADDITEMS = 0x90
    MEMOIZE = 0x94
    BINPUT = 0x71
    LONG_BINPUT = 0x72
    BINGET = 0x68
    LONG_BINGET = 0x6A
    GLOBAL = 0x63
    STACK_GLOBAL = 0x93
    REDUCE = 0x52
    NEWOBJ = 0x81
    BUILD = 0x62

    # Permissions
    CALL = 1
    CALL_EMPTY = 2
    NEW = 4
    TAKES_ITEMS = 8
    TAKES_PAIRS = 16
    UNHASHABLE = 32
    TAKES_FACTORY = 64
    FACTORY = 128
    CALL_GETATTR = 256
    CALL_ENCODE = 512
    NEW_WITH = 1024
    TAKES_STATE = 2048
    CALL_REBUILD = 4096
    DEFERRED = 8192
    HASHED_BY_PAIR = 16384
    TAKES_KEYS = 32768

    # What was found
    FOUND_GLOBALS = 1
    FOUND_PLACEHOLDERS = 2
    FOUND_OBJECT_KEYS = 4

    # Kinds of nodes
    LIST_NODE = 0
    DICT_NODE = 1
    SET_NODE = 2
    TUPLE_NODE = 3
    FROZENSET_NODE = 4
    BYTES_NODE = 5
    BYTEARRAY_NODE = 6
    CALLED_NODE = 7
    INSTANCE_NODE = 8
    GLOBAL_NODE = 9
    GLOBAL_TUPLE_NODE = 10
    KIND = 15
    CLOSED = 16

    # Charges
    OPCODE_MEMORY = 88
    TEXT_MEMORY = 4
    LIST_MEMORY = 160
    DICT_MEMORY = 320
    SET_MEMORY = 420
    TUPLE_MEMORY = 140
    DICT_ITEM_MEMORY = 56
    SET_ITEM_MEMORY = 168
    KEY_NODE_MEMORY = 140
    KEY_PART_MEMORY = 100
    LONG_TEXT_COPIES = 2
    CALLED_MEMORY = 200
    COPIED_MEMORY = 128
    MANY_KEYS = 8
    MAX_NAME = 256
