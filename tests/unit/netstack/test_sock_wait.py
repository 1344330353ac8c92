"""Who waits for sockets and who is woken (recording udp_blocking_recv_wakeup; socket(7), signal(7))."""

from collections.abc import Callable
from typing import Any

from socket_machine import AF_INET, SOCK_DGRAM, SocketMachine, sockaddr

from ebpfsim.errnos import Errno

HANDLER = (0x40_2000).to_bytes(8, "little") + bytes(24)
SIGUSR1 = 10
LOCAL = sockaddr("127.0.0.1", 5000)


def waits_and_is_told(
    machine: SocketMachine, tell: Callable[[Any, Callable[..., int]], object], *, timeout: bool = False
) -> list[int]:
    """Return what recv() returns that somebody else ends."""
    answers: list[int] = []

    def waits(_task: object, call: Callable[..., int]) -> None:
        call("rt_sigaction", SIGUSR1, HANDLER, 0, 8)
        call("socket", AF_INET, SOCK_DGRAM, 0)
        call("bind", 3, LOCAL, 16)
        if timeout:
            call("setsockopt", 3, 1, 20, (5).to_bytes(8, "little") + bytes(8), 16)
        answers.append(call("recvfrom", 3, bytes(8), 8, 0, 0, 0))

    def tells(task: Any, call: Callable[..., int]) -> None:
        machine.kernel.sched.wait(None, timeout_ns=1_000_000)
        tell(task, call)

    machine.start(waits)
    machine.start(tells)
    machine.sim.run("10s")
    return answers


def test_a_datagram_wakes_by_the_functions_of_the_recording() -> None:
    machine = SocketMachine()

    def tell(_task: object, call: Callable[..., int]) -> None:
        call("socket", AF_INET, SOCK_DGRAM, 0)
        machine.watch()
        call("sendto", 3, b"x", 1, 0, LOCAL, 16)

    assert waits_and_is_told(machine, tell) == [1]
    chain = ["sock_def_readable", "__wake_up_sync_key", "__wake_up_common", "receiver_wake_function",
             "autoremove_wake_function", "default_wake_function", "try_to_wake_up"]  # fmt: skip
    first = machine.calls.index("sock_def_readable")
    assert machine.calls[first : first + len(chain)] == chain


def test_a_signal_ends_waiting() -> None:
    # ERESTARTSYS without SA_RESTART becomes EINTR; with a timeout it is EINTR in any case
    for timeout in (False, True):
        machine = SocketMachine()
        answers = waits_and_is_told(machine, lambda _task, call: call("kill", 1000, SIGUSR1), timeout=timeout)
        assert answers == [-Errno.EINTR]
