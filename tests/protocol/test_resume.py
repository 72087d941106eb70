"""Resume: two sides that remember a stream agree on how it goes on, byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.protocol import resume


@pytest.mark.parametrize(
    ("held", "base", "head", "expected"),
    [
        (0, 0, 0, resume.Plan(0, 0, None)),
        (50, 0, 100, resume.Plan(50, 0, None)),
        (100, 0, 100, resume.Plan(100, 0, None)),
        (50, 50, 100, resume.Plan(50, 0, None)),
        (49, 50, 100, resume.Plan(50, 0, (49, 50))),
        (0, 100, 100, resume.Plan(100, 0, (0, 100))),
        (101, 0, 100, resume.Plan(100, 1, None)),
        (500, 100, 100, resume.Plan(100, 400, None)),
    ],
)
def test_every_case_of_the_protocol(held: int, base: int, head: int, expected: resume.Plan) -> None:
    assert resume.plan(held=held, base=base, head=head) == expected


@pytest.mark.parametrize(("base", "head"), [(1, 0), (-1, 0), (101, 100)])
def test_a_stream_held_from_behind_its_end_is_refused(base: int, head: int) -> None:
    with pytest.raises(ValueError, match=f"held from {base} to {head}"):
        resume.plan(held=0, base=base, head=head)


@given(
    stream=st.binary(max_size=60),
    numbers=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)),
)
def test_the_receiver_ends_with_the_stream_except_for_the_gap_it_is_told(
    stream: bytes, numbers: tuple[int, int, int, int]
) -> None:
    held, first, second, sent_later = (min(number, len(stream)) for number in numbers)
    base, head = sorted((first, second))
    plan = resume.plan(held=held, base=base, head=head)

    # The sender can send what it is asked for, and goes on to its end and to what its program prints then.
    assert base <= plan.from_ <= head
    end = max(head, sent_later)
    sent = stream[plan.from_ : end]

    # The receiver marks what it is told is lost, drops what it has, and appends the rest.
    received: list[int | None] = list(stream[:held])
    if plan.gap is not None:
        start, stop = plan.gap
        assert start == held < stop == plan.from_
        received += [None] * (stop - start)
    received += sent[plan.skip_bytes :]

    assert len(received) == max(held, end)
    lost = range(*plan.gap) if plan.gap else range(0)
    assert [at for at, byte in enumerate(received) if byte is None] == list(lost)
    assert all(byte in (None, stream[at]) for at, byte in enumerate(received))
    # Nothing is given up that the sender still had.
    assert all(at < base for at in lost)
