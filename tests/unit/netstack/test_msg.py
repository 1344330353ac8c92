"""Messages: pieces of memory and control messages (cmsg(3))."""

from struct import pack
from typing import Any

import pytest
from socket_machine import SocketMachine

from netstack.msg import MSG_CTRUNC, message, message_at, parse_control, put_cmsg_to


def cmsg(length: int, data: bytes = b"") -> bytes:
    return pack("<Qii", length, 1, 2) + data


# CMSG_OK(), CMSG_NXTHDR() of include/linux/socket.h
@pytest.mark.parametrize(
    ("data", "found"),
    [(b"", []), (bytes(15), []), (cmsg(20, b"abcd"), [(1, 2, b"abcd")]), (cmsg(15), None), (cmsg(17), None),
     (cmsg(17, b"a") + bytes(7) + cmsg(16), [(1, 2, b"a"), (1, 2, b"")]),
     (cmsg(17, b"a") + bytes(7) + cmsg(24), None), (cmsg(17, b"a") + bytes(3), [(1, 2, b"a")])],
)  # fmt: skip
def test_control_messages_are_taken_apart(data: bytes, found: object) -> None:
    assert parse_control(data) == found


def test_a_message_has_pieces_and_room() -> None:
    machine, seen = SocketMachine(), list[Any]()

    def what(task: Any, _call: object) -> None:
        kernel, cpu = machine.kernel, machine.kernel.cpus[0]
        first, second, room = task.user.alloc(4, b"abcd"), task.user.alloc(4, b"efgh"), task.user.alloc(64)
        with message(kernel, cpu, [(first, 2), (second, 4)]) as msg:
            assert message_at(kernel, msg.address) is msg
            seen.append((msg.count, msg.take(5), msg.take(2)))
        with message(kernel, cpu, [(first, 4), (1, 4)]) as msg:
            seen.append((msg.put(b"1234"), msg.put(b"5"), task.user.read(first, 4)))
            msg.room = (room, 44)
            put_cmsg_to(kernel, cpu, msg, 1, 2, b"xyz")
            assert (msg.written, msg.msg_flags & MSG_CTRUNC) == (24, 0)
            put_cmsg_to(kernel, cpu, msg, 1, 2, b"vwxyz")
            seen.append((msg.written, msg.msg_flags & MSG_CTRUNC, task.user.read(room, 44)))

    machine.run(what)
    assert seen[:2] == [(6, b"abefg", None), (True, False, b"1234")]
    assert seen[2] == (44, MSG_CTRUNC, cmsg(19, b"xyz") + bytes(5) + cmsg(20, b"vwxy"))
