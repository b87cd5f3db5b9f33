cdef class Hmac:
    cdef object inner, outer

    cdef bytes tag(self, object signed)


cdef class FrameOpener(Hmac):
    cdef object frame_type
    cdef unsigned long long cap
    cdef bint from_client
    cdef bytes chunk
    cdef Py_ssize_t at
    cdef readonly Py_ssize_t pending

    cdef object opened(self, bytes frame)
