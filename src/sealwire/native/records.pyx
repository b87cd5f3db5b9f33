"""Passes small frames through TLS: the twin of the ordinary steps of :mod:`sealwire.sync.tls_socket` and of
:mod:`sealwire.aio.pump`.

A step goes as such steps usually go: all that is queued fits into one record, or is one frame; or what has arrived
begins with a whole record, or with the two that a frame is in. Otherwise it leaves all as the reference would have left it, and the reference goes on from there.
"""

from ssl import SSLError, SSLWantReadError

from sealwire.native.frames cimport FrameOpener

cdef enum:
    RECORD = 16_384
    PER_BYTE = 32  # as in sealwire.session.ciphertext
    BYTE_COUNT = 4  # of a frame's length, with which it begins
    KIND = 4
    MESSAGE = 3


cdef class Records:
    """The records of one TLS connection.

    Args:
        tls: Its TLS object.
        incoming: The BIO with ciphertext to decrypt.
        outgoing: The BIO with ciphertext to send.
        bound: The bound on ciphertext without data.
    """

    cdef object tls, incoming, outgoing, bound, write_record, read_record
    cdef readonly object error
    """What was found behind the data that :meth:`decrypt` returned last; None if nothing is wrong."""

    def __reduce__(self):
        raise TypeError("the records of a connection cannot be pickled")

    def __init__(self, tls, incoming, outgoing, bound):
        self.tls, self.incoming, self.outgoing, self.bound = tls, incoming, outgoing, bound
        self.write_record, self.read_record = tls.write, tls.read

    cpdef Py_ssize_t encrypt(self, list queued) except -1:
        """Encrypt small frames in one record, or one frame, and empty the queue; return the size, or 0 if in doubt."""
        cdef bytes data = joined(queued)
        if data is None:
            return 0
        try:
            self.write_record(data)
        except SSLError:
            return 0
        queued.clear()
        return len(data)

    cpdef Py_ssize_t decrypt(self, reader, bint is_ahead=False) except -1:
        """Have an empty reader take the next record's data; return its size, or 0 if in doubt. Raises SSLError.

        A MESSAGE that ends in the record after that is taken as a whole, and nothing behind it.

        Args:
            reader: The :class:`sealwire.wire.frame_reader.Reader`.
            is_ahead: The data stays in the reader for a while: take one record at most.
        """
        cdef FrameOpener opener = reader.opener
        cdef bytes data
        if opener is None or not reader.empty:
            return 0
        try:
            data = self.read_record(RECORD)
        except SSLWantReadError:
            return 0
        if not data:
            return 0
        self.error = None
        if len(data) == RECORD and data[KIND] == MESSAGE and not is_ahead:
            data = self.with_rest(data)
        self.bound.surplus = max(0, self.bound.surplus - PER_BYTE * len(data))
        reader.reads += 1
        opener.feed(data)
        return len(data)

    cdef bytes with_rest(self, bytes data):
        """Return the data of a record with the rest of the frame that it begins with, if that is in the next record."""
        cdef Py_ssize_t missing = BYTE_COUNT - RECORD, i, size = 0
        for i in range(BYTE_COUNT):
            size = size * 256 + data[i]
        missing += size
        if not 0 < missing <= RECORD or self.incoming.pending <= missing:
            return data
        try:
            return data + self.read_record(missing)
        except SSLWantReadError:
            pass
        except SSLError as error:
            self.error = error.with_traceback(None)  # its frames have the data
        return data


cdef class SocketRecords(Records):
    """The same on a socket, with its system calls.

    Args:
        sock: The :class:`sealwire.sync.tls_socket.TLSSocket`; it has the others as well.
    """

    cdef object sock, send, receive

    def __init__(self, sock, tls, incoming, outgoing, bound):
        super().__init__(tls, incoming, outgoing, bound)
        self.sock, self.send, self.receive = sock, sock.send, sock.recv

    def write(self, list queued not None):
        """Send frames in one record; return True if the kernel has taken it.

        Otherwise what is queued then is still to be written, by the reference. Raises OSError.
        """
        cdef bytes ciphertext
        cdef Py_ssize_t size, sent
        sock = self.sock
        if sock.held or sock._accepted or sock._unsent:
            return False
        data = queued[0] if len(queued) == 1 else (joined(queued),)
        size = self.encrypt(queued)
        if not size:
            return False
        ciphertext = self.outgoing.read()
        try:
            sent = self.send(ciphertext)
        except BlockingIOError:
            sent = 0
        except OSError:
            queued.append(data)
            raise
        if sent == len(ciphertext):
            return True
        sock._unsent, sock._accepted = memoryview(ciphertext)[sent:], size
        queued.append(data)
        return False

    def read(self, reader, bint is_ahead):
        """Have a reader take what has arrived; return the size, or 0 if the reference must read. Raises OSError.

        Args:
            reader, is_ahead: As for :meth:`decrypt`.
        """
        cdef bytes ciphertext
        cdef Py_ssize_t limit, size
        sock = self.sock
        if reader.opener is None or sock._error is not None or not reader.empty:
            return 0
        if not sock.buffered:
            limit = sock._read_size
            try:
                ciphertext = self.receive(limit)
            except BlockingIOError:
                sock._more = False
                return 0
            sock._more = len(ciphertext) == limit
            sock.buffered = True  # so that the reference goes on without asking the kernel
            if not ciphertext:
                self.incoming.write_eof()
                return 0
            self.bound.surplus += len(ciphertext)
            self.incoming.write(ciphertext)
        size = self.decrypt(reader, is_ahead)
        if size:
            sock._error = self.error
            sock.buffered = (
                self.error is not None or self.incoming.pending > 0 or (size >= RECORD and self.tls.pending() > 0)
            )
        return size


cdef bytes joined(list queued):
    """Return one frame, or small ones in one piece; None if one has more pieces, or they are too much for a record."""
    cdef Py_ssize_t size = 0
    cdef list pieces = []
    for frame in queued:
        if type(frame) is not tuple or len(<tuple> frame) != 1 or type((<tuple> frame)[0]) is not bytes:
            return None
        pieces.append((<tuple> frame)[0])
        size += len(<bytes> (<tuple> frame)[0])
    if not pieces or (size > RECORD and len(pieces) > 1):
        return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
