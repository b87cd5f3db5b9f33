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
    LARGE = 4096  # bytes that take longer to copy than to look at
    # Kinds
    MESSAGE = 3


ctypedef fused Buffer:
    bytes
    bytearray


cdef class Hmac:
    """HMAC-SHA256 with one key.

    Args:
        inner: The hash of the inner block, from :class:`sealwire.wire.keys.Mac`.
        outer: The hash of the outer block.
    """

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
    """Opens small MESSAGE frames, in bytes as they came or in a buffer of the reference.

    Args:
        inner: The hash of the inner block.
        outer: The hash of the outer block.
        frame_type: :class:`sealwire.wire.frame_reader.Frame`.
        cap: The largest ``length``.
        from_client: True if they are a client's, which may have a ``wait``, or a server's, which have a ``reply_to``.

    Attributes:
        pending: Bytes of :meth:`feed` that were not taken.
    """

    def __init__(self, inner, outer, frame_type, unsigned long long cap, bint from_client):
        super().__init__(inner, outer)
        self.frame_type = frame_type
        self.cap = cap
        self.from_client = from_client
        self.chunk = b""

    def feed(self, bytes data not None):
        """Take bytes that have arrived. Only if none are pending."""
        self.chunk, self.at, self.pending = data, 0, len(data)

    def rest(self):
        """Return the bytes that are pending, and let go of them."""
        data = self.chunk[self.at :]
        self.chunk, self.pending = b"", 0
        return data

    def next(self, unsigned long long sequence):
        """Return the next frame of the bytes that are pending, without ``raw``; None if in doubt."""
        cdef Py_ssize_t size = 0
        if self.pending:
            size = sure_size(self.chunk, self.at, self.pending, self.cap, sequence, self.from_client)
        if not size:
            return None
        frame = self.opened(self.chunk[self.at : self.at + size])
        if frame is not None:
            self.at += size
            self.pending -= size
            if not self.pending:
                self.chunk = b""
        return frame

    def open(self, view not None, Py_ssize_t start, Py_ssize_t end, unsigned long long sequence):
        """Return the frame at ``start``, without ``raw``; None if in doubt.

        Args:
            view: A view of the buffer that frames are read into, a whole bytearray.
            start: The frame's position in the buffer.
            end: The end of the bytes that have arrived.
            sequence: The sequence number that the frame must have.
        """
        cdef bytearray buffer = view.obj
        cdef Py_ssize_t size
        if buffer is None or start < 0 or end > len(buffer) or start > end:
            return None
        size = sure_size(buffer, start, end - start, self.cap, sequence, self.from_client)
        return self.opened(view[start : start + size].tobytes()) if size else None

    cdef object opened(self, bytes frame):
        """Return a frame with such a header if its tag is right, or None."""
        cdef Py_ssize_t end = len(frame) - TAG
        signed = frame[:end] if end < LARGE else memoryview(frame)[:end]
        if not compare_digest(self.tag(signed), frame[end:]):
            return None
        return tuple.__new__(self.frame_type, (
            MESSAGE, 0, take(frame, WAIT, 2), take(frame, SEQUENCE, 8), take(frame, REPLY_TO, 8), frame[HEAD:end], b""
        ))


cdef unsigned long long take(Buffer buffer, Py_ssize_t at, Py_ssize_t size) except? 0:
    """Return an unsigned big-endian integer."""
    cdef unsigned long long value = 0
    cdef Py_ssize_t i
    for i in range(at, at + size):
        value = value << 8 | <unsigned char> buffer[i]
    return value


cdef Py_ssize_t sure_size(Buffer buffer, Py_ssize_t start, Py_ssize_t pending, unsigned long long cap,
                          unsigned long long sequence, bint from_client) except -1:
    """Return the size of a MESSAGE that has arrived as a whole and has the right header; 0 if in doubt."""
    cdef unsigned long long length
    if pending < HEAD + TAG:
        return 0
    length = take(buffer, start, 4)
    if length < OVERHEAD or length > cap or length + 4 > <unsigned long long> pending:
        return 0
    if buffer[start + KIND] != MESSAGE or buffer[start + FLAGS] != 0:
        return 0
    if take(buffer, start + SEQUENCE, 8) != sequence:
        return 0
    if (take(buffer, start + REPLY_TO, 8) if from_client else take(buffer, start + WAIT, 2)) != 0:
        return 0
    return 4 + <Py_ssize_t> length
