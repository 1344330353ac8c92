"""Tasks that wait for sockets, and who wakes them (net/core/sock.c, net/core/datagram.c, v6.18)."""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from netstack.sockfs import SocketKernel
from tracing.fs import task_of
from tracing.functions import kernel_function
from tracing.signals import ERESTARTSYS, interrupted
from tracing.waiting import Waiter, WaitHead

__all__ = ["Patience", "wake_head", "wake_socket"]

TASK_INTERRUPTIBLE = 1
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLRDHUP = (
    *(1, 2, 4, 8, 0x10, 0x40, 0x80, 0x100, 0x200, 0x2000),
)
READABLE = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND
WRITABLE = POLLOUT | POLLWRNORM | POLLWRBAND


class Patience:
    """How long a call still waits: None for ever, 0 not at all (``sock_rcvtimeo``, ``sock_sndtimeo``)."""

    __slots__ = ("left",)

    def __init__(self, timeout_ns: int | None, *, nonblock: bool = False) -> None:
        self.left = 0 if nonblock else timeout_ns

    @property
    def interrupted(self) -> int:
        """The errno of a call that a signal ended (``sock_intr_errno``)."""
        return -ERESTARTSYS if self.left is None else -Errno.EINTR

    def wait(
        self, k: Any, cpu: Cpu, head: WaitHead, function: str = "autoremove_wake_function", *, exclusive: bool = False
    ) -> int:
        """Let the current task wait until it is woken or time is over: 0, or -errno when a signal is there."""
        task = task_of(k, cpu)
        if interrupted(task):
            return self.interrupted
        waiter, start_ns = Waiter(task, function, exclusive), cpu.now_ns
        head.waiters.append(waiter)
        k.sched.wait(None, timeout_ns=self.left)
        if waiter in head.waiters:
            head.waiters.remove(waiter)
        if self.left is not None:
            self.left = max(0, self.left - (k.sched.cpu_of(task).now_ns - start_ns))
        return 0


def wake_head(k: Any, cpu: Cpu, head: WaitHead, key: int, *, sync: bool = True, nr_exclusive: int = 1) -> None:
    """Wake who waits at a queue, one of those that are exclusive, or all of them (0)."""
    head.events += 1
    if not head.has_sleeper:
        return
    if sync:
        k.functions.__wake_up_sync_key(cpu, head.address, TASK_INTERRUPTIBLE, key)
    else:
        k.functions.__wake_up(cpu, head.address, TASK_INTERRUPTIBLE, nr_exclusive, key)


def wake_socket(k: SocketKernel, cpu: Cpu, sk: int, key: int, *, sync: bool = True, nr_exclusive: int = 1) -> None:
    """Wake who waits for a ``struct sock``, unless it has no socket (any more)."""
    socket = k.sockfs.find(sk)
    if socket is not None:
        wake_head(k, cpu, socket.wait, key, sync=sync, nr_exclusive=nr_exclusive)


@kernel_function
def sock_def_readable(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """There is something to read."""
    if k.net.tracepoints.watched:
        k.net.tracepoints.sk_data_ready(cpu, sk)
    wake_socket(k, cpu, sk, READABLE)


@kernel_function
def sock_def_error_report(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """There is an error."""
    wake_socket(k, cpu, sk, POLLERR, sync=False)


@kernel_function
def sock_def_wakeup(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """The state of a connection has changed: all look."""
    wake_socket(k, cpu, sk, 0, sync=False, nr_exclusive=0)


@kernel_function
def sock_def_write_space(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """There is room for what is written."""
    wake_socket(k, cpu, sk, WRITABLE)


@kernel_function
def sk_stream_write_space(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """There is room for what is written to a connection."""
    wake_socket(k, cpu, sk, POLLOUT | POLLWRNORM | POLLWRBAND, sync=False)
