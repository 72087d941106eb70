"""Messages and descriptors between runner and keeper, however the socket cuts them."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.errors import KeeperError
from agentrelay.runner.keeper_wire import MAX_MESSAGE_BYTES, Inbox, Message, Wire, frame

payloads = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20) | st.none(), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["hello", "exited", "stop"]), payloads), max_size=5), st.data())
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[str, dict[str, object]]], data: st.DataObject
) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    inbox = Inbox()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        inbox.receive(stream[start:end], [])
        while (message := inbox.next()) is not None:
            received.append((message.type, message.payload))
    assert received == messages


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ((MAX_MESSAGE_BYTES + 1).to_bytes(4), "at most"),
        (b"\0\0\0\x02{]", "not JSON"),
        (b"\0\0\0\x02[]", "type"),
        (b'\0\0\0\x0a{"type":1}', "type"),
        (frame("spawned", {"session_id": "a", "pid": 1}), "0 descriptors, not 2"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, complaint: str) -> None:
    inbox = Inbox()
    inbox.receive(data, [])
    with pytest.raises(KeeperError, match=complaint):
        inbox.next()


@pytest.fixture
def wires() -> Iterator[tuple[Wire, Wire]]:
    left, right = (Wire(sock) for sock in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def receive_all(wire: Wire, sender: Wire, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        sender.flush()
        more = wire.receive()
        assert more is not None
        messages += more
    return messages


def test_descriptors_arrive_with_their_message(wires: tuple[Wire, Wire]) -> None:
    left, right = wires
    pipes = [os.pipe() for _ in range(3)]
    for number, pipe in enumerate(pipes):
        left.send("hello", {"before": number})
        left.send("held", {"number": number}, pipe)
    messages = receive_all(right, left, 6)
    assert [message.type for message in messages] == ["hello", "held"] * 3
    for (read, write), message in zip(pipes, messages[1::2], strict=True):
        received_read, received_write = message.fds
        assert not os.get_inheritable(received_read)
        os.write(received_write, b"through")
        assert os.read(read, 100) == b"through"
        for fd in (read, write, received_read, received_write):
            os.close(fd)


def test_a_sender_may_close_its_descriptors_while_they_wait(wires: tuple[Wire, Wire]) -> None:
    left, right = wires
    while not left.pending:
        left.send("hello", {"padding": "x" * 10_000})
    read, write = os.pipe()
    os.write(write, b"the right one")
    left.send("held", {}, (read, write))
    os.close(read)
    os.close(write)
    others = os.pipe()  # has the same numbers now
    message = next(message for message in receive_rest(right, left) if message.type == "held")
    assert os.read(message.fds[0], 100) == b"the right one"
    for fd in (*message.fds, *others):
        os.close(fd)


def receive_rest(wire: Wire, sender: Wire) -> Iterator[Message]:
    while True:
        sender.flush()
        messages = wire.receive()
        assert messages is not None
        yield from messages


def test_a_peer_that_does_not_read_is_given_up(wires: tuple[Wire, Wire]) -> None:
    left, _ = wires

    def send_on() -> None:
        while True:
            left.send("hello", {"padding": "x" * 1_000_000})

    with pytest.raises(KeeperError, match="does not read"):
        send_on()


def test_the_end_of_a_connection_is_told_after_its_last_message(wires: tuple[Wire, Wire]) -> None:
    left, right = wires
    left.send("hello", {})
    left.close()
    messages = right.receive()
    assert messages is not None
    assert [message.type for message in messages] == ["hello"]
    assert right.receive() is None


def test_descriptors_without_their_message_are_closed() -> None:
    inbox = Inbox()
    read, write = os.pipe()
    inbox.receive(b"\0\0", [read, write])
    inbox.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
