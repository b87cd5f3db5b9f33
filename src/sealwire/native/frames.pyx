"""Seals and opens small frames: the twin of :mod:`sealwire.wire.sealing` and :mod:`sealwire.wire.frame_reader`.

It seals what fits into one piece, and opens a MESSAGE that has arrived as a whole, with the right tag, the next
sequence number and no field that its sender may not use. It is in doubt about everything else, and has changed nothing.
"""

from hmac import compare_digest

cdef enum:
    # Offsets in the header (docs/protocol.md, section 2), and sizes
    KIND = 4
    FLAGS = 5
    WAIT = 6
    SEQUENCE = 8
    REPLY_TO = 16
    HEAD = 24
    TAG = 32
    OVERHEAD = 52
    # Kinds
    MESSAGE = 3


cdef class Hmac:
    """HMAC-SHA256 with one key.

    Args:
        inner: The hash of the inner block, from :class:`sealwire.wire.keys.Mac`.
        outer: The hash of the outer block.
    """

    cdef object inner, outer

    def __init__(self, inner, outer):
        self.inner = inner
        self.outer = outer

    def __reduce__(self):
        raise TypeError("a MAC holds a secret and cannot be pickled")

    cdef bytes tag(self, object signed):
        inner = self.inner.copy()
        inner.update(signed)
        outer = self.outer.copy()
        outer.update(inner.digest())
        return outer.digest()


cdef class FrameSealer(Hmac):
    """Seals small frames.

    Args:
        inner: The hash of the inner block.
        outer: The hash of the outer block.
        max_payload: The largest payload to seal, in bytes.
    """

    cdef Py_ssize_t max_payload
    cdef object head
    cdef unsigned char[::1] fields

    def __init__(self, inner, outer, Py_ssize_t max_payload):
        super().__init__(inner, outer)
        self.max_payload = max_payload
        self.head = bytearray(HEAD)
        self.fields = self.head

    def seal(self, int kind, payload, int wait, unsigned long long sequence, unsigned long long reply_to):
        """Return the frame, or None if in doubt."""
        cdef Py_ssize_t size = 0
        cdef bytes signed
        if type(payload) is bytes:
            size = len(<bytes> payload)
        elif type(payload) is list:
            for part in <list> payload:
                if type(part) is not bytes and type(part) is not bytearray:
                    return None
                size += len(part)
        else:
            return None
        if size > self.max_payload:
            return None
        self.put(0, 4, size + OVERHEAD)
        self.put(KIND, 1, kind)
        self.put(WAIT, 2, wait)
        self.put(SEQUENCE, 8, sequence)
        self.put(REPLY_TO, 8, reply_to)
        signed = b"".join((self.head, payload) if type(payload) is bytes else [self.head, *payload])
        return signed + self.tag(signed)

    cdef int put(self, Py_ssize_t at, Py_ssize_t size, unsigned long long value) except -1:
        cdef Py_ssize_t i
        for i in range(at + size - 1, at - 1, -1):
            self.fields[i] = value & 0xFF
            value >>= 8
        return 0


cdef class FrameOpener(Hmac):
    """Opens small MESSAGE frames.

    Args:
        inner: The hash of the inner block.
        outer: The hash of the outer block.
        frame_type: :class:`sealwire.wire.frame_reader.Frame`.
    """

    cdef object frame_type

    def __init__(self, inner, outer, frame_type):
        super().__init__(inner, outer)
        self.frame_type = frame_type

    def open(self, view not None, Py_ssize_t start, Py_ssize_t end, unsigned long long cap,
             unsigned long long sequence, bint from_client):
        """Return the frame at ``start``, without ``raw``; None if in doubt.

        Args:
            view: A view of the buffer that frames are read into, a whole bytearray.
            start: The frame's position in the buffer.
            end: The end of the bytes that have arrived.
            cap: The largest ``length``.
            sequence: The sequence number that the frame must have.
            from_client: True if it is a client's, which may have a ``wait``, or a server's, which has a ``reply_to``.
        """
        cdef bytearray buffer = view.obj
        cdef unsigned long long length, wait, reply_to
        cdef Py_ssize_t stop
        cdef bytes frame
        if buffer is None or start < 0 or end > len(buffer) or end - start < HEAD + TAG:
            return None
        length = take(buffer, start, 4)
        if length < OVERHEAD or length > cap or length + 4 > <unsigned long long> (end - start):
            return None
        if buffer[start + KIND] != MESSAGE or buffer[start + FLAGS] != 0:
            return None
        if take(buffer, start + SEQUENCE, 8) != sequence:
            return None
        wait = take(buffer, start + WAIT, 2)
        reply_to = take(buffer, start + REPLY_TO, 8)
        if (reply_to if from_client else wait) != 0:
            return None
        stop = start + 4 + <Py_ssize_t> length
        frame = view[start:stop].tobytes()
        if not compare_digest(self.tag(frame[: len(frame) - TAG]), frame[len(frame) - TAG :]):
            return None
        payload = frame[HEAD : len(frame) - TAG]
        return tuple.__new__(self.frame_type, (MESSAGE, 0, wait, sequence, reply_to, payload, b""))


cdef unsigned long long take(bytearray buffer, Py_ssize_t at, Py_ssize_t size) except? 0:
    """Return an unsigned big-endian integer."""
    cdef unsigned long long value = 0
    cdef Py_ssize_t i
    for i in range(at, at + size):
        value = value << 8 | buffer[i]
    return value
