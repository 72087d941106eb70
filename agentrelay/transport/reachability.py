"""Reachability: what the kernel knows of a peer from which nothing is read."""

import math
import socket
import struct

_ESTABLISHED = 1
_LAST_ACK_MS = struct.Struct("=I")
_LAST_ACK_AT = 56
"""Where `tcpi_last_ack_recv` lies in Linux's `struct tcp_info`, whose first byte is the state."""


def silence_s(fd: int) -> float:
    """Tell for how many seconds the peer's machine has acknowledged nothing.

    Only what was sent to it is acknowledged, so whoever wants to know sends something now and then.

    Args:
        fd: a socket.

    Returns:
        `inf` once the peer has closed or reset the connection; 0.0 where the kernel does not say, as it does
        for TCP on Linux alone.
    """
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    looked_at = socket.socket(fileno=fd)
    try:
        info = looked_at.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_ACK_AT + _LAST_ACK_MS.size)
    except OSError:  # no TCP
        return 0.0
    finally:
        looked_at.detach()
    if len(info) < _LAST_ACK_AT + _LAST_ACK_MS.size:
        return 0.0
    if info[0] != _ESTABLISHED:
        return math.inf
    return float(_LAST_ACK_MS.unpack_from(info, _LAST_ACK_AT)[0]) / 1000
