"""Resume: from where a stream goes on when two sides that remember it meet (docs/protocol.md section 3.4)."""

from typing import NamedTuple


class Plan(NamedTuple):
    """How a stream goes on.

    Attributes:
        from_: offset of the first byte that is to be sent.
        skip_bytes: how many of the bytes sent from there the receiver already has.
        gap: `(from, to)` of bytes that nobody has any more, or None.
    """

    from_: int
    skip_bytes: int
    gap: tuple[int, int] | None


def plan(*, held: int, base: int, head: int) -> Plan:
    """Decide how a stream goes on.

    Args:
        held: offset up to which the receiver has the stream.
        base: oldest offset the sender can send from.
        head: offset up to which the sender has the stream.

    Raises:
        ValueError: `base` lies behind `head`.
    """
    if not 0 <= base <= head:
        raise ValueError(f"a stream cannot be held from {base} to {head}")
    if held < base:
        return Plan(base, 0, (held, base))
    if held > head:
        return Plan(head, held - head, None)
    return Plan(held, 0, None)
