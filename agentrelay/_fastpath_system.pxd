"""What the hot path asks of the system: memory mapped twice, sending, atomic words."""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, mmap,
)
from posix.uio cimport iovec

cdef extern from "<sys/mman.h>" nogil:
    int MADV_REMOVE
    int madvise(void *address, size_t n_bytes, int advice)
    int munmap(void *address, size_t n_bytes)

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    Py_ssize_t send(int fd, const void *data, size_t n_bytes, int flags)
    Py_ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef extern from * nogil:
    int __ATOMIC_ACQUIRE
    int __ATOMIC_RELEASE
    uint64_t __atomic_load_n(uint64_t *word, int order)
    void __atomic_store_n(uint64_t *word, uint64_t value, int order)


cdef inline uint64_t load(uint64_t *word) noexcept nogil:
    return __atomic_load_n(word, __ATOMIC_ACQUIRE)


cdef inline void store(uint64_t *word, uint64_t value) noexcept nogil:
    """Store after everything that was written before it."""
    __atomic_store_n(word, value, __ATOMIC_RELEASE)


cdef inline void *reserve(size_t n_bytes) noexcept nogil:
    """Take a range of addresses, so that what is mapped there has no strangers in between; NULL: failed."""
    cdef void *address = mmap(NULL, n_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    return NULL if address == MAP_FAILED else address


cdef inline bint map_file(void *address, size_t n_bytes, int fd, size_t offset) noexcept nogil:
    """Map a part of a file into a reserved range."""
    cdef int flags = MAP_SHARED | MAP_FIXED
    return mmap(address, n_bytes, PROT_READ | PROT_WRITE, flags, fd, offset) != MAP_FAILED
