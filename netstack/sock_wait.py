"""Tasks that wait for sockets, and who wakes them (net/core/sock.c, net/core/datagram.c, v6.18)."""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from netstack.sockfs import SocketKernel, TaskSocket
from tracing.fs import task_of
from tracing.functions import kernel_function
from tracing.signals import ERESTARTSYS, interrupted
from tracing.waiting import Waiter, WaitHead

__all__ = ["Patience", "receive_wait", "wake_head", "wake_socket"]

TASK_INTERRUPTIBLE = 1
RCV_SHUTDOWN, MAX_SCHEDULE_TIMEOUT = 1, (1 << 63) - 1
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


def receive_wait(k: SocketKernel, cpu: Cpu, socket: TaskSocket, looks: str, *, nonblock: bool) -> int:
    """Wait for a packet: 0, -errno, -ESHUTDOWN at the end (``__skb_recv_datagram``); ``looks`` is what looks for it."""
    sk: Any = socket.sk
    patience = Patience(socket.rcvtimeo_ns, nonblock=nonblock)
    room = k.mem.alloc(16)
    while True:
        err = -int(sk.take_error())
        if err:
            break
        getattr(k.functions, looks)(cpu, sk.struct_address, *_NOTHING[looks])
        if sk.queue:
            break
        err = -Errno.EAGAIN
        if patience.left == 0:
            break
        k.walks[room] = patience
        waited = k.functions.__skb_wait_for_more_packets(cpu, sk.struct_address, 0, room, room + 8, 0)
        del k.walks[room]
        if waited:
            err = s32(k.mem.load(room, 4)) or -Errno.ESHUTDOWN
            break
    k.mem.free(room)
    return err


_NOTHING = {"skb_recv_datagram": (0, 0), "__skb_try_recv_datagram": (0,) * 5}


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


@kernel_function
def __skb_wait_for_more_packets(
    k: SocketKernel, cpu: Cpu, sk: int, _queue: int, err: int, timeo_p: int, _skb: int
) -> int:
    """Wait until something comes or time is over; 1 with ``*err`` when there is no use in waiting."""
    patience, functions = k.walks[err], k.functions
    left, socket = patience.left, k.sockfs.at(sk)
    k.mem.store(err, 4, 0)
    if socket.sk.sk_shutdown & RCV_SHUTDOWN:
        return 1
    k.mem.store(timeo_p, 8, MAX_SCHEDULE_TIMEOUT if left is None else left)
    functions.prepare_to_wait_exclusive(cpu, socket.wait.address, 0, 1)
    ret = patience.wait(k, cpu, socket.wait, "receiver_wake_function", exclusive=True)
    functions.finish_wait(cpu, socket.wait.address, 0)
    k.mem.store(err, 4, u32(ret))
    return 1 if ret else 0
