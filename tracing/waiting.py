"""Queues of tasks that wait for files, and of epoll instances that watch them (kernel/sched/wait.c, v6.18)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ebpfsim.btf.view import place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from tracing.functions import kernel_function
from tracing.sched import WaitQueue
from tracing.signals import interrupted
from tracing.task import Task

__all__ = ["WaitHead", "wait_for", "wake"]

TASK_NORMAL = 3
_PRIVATE = place("wait_queue_entry", "private")[0]


class Waiter(NamedTuple):
    """A ``wait_queue_entry``: who is woken and by which function; of those that are exclusive only one at a time."""

    task: Task
    function: str
    exclusive: bool


class WaitHead:
    """A ``wait_queue_head`` with the tasks that wait at it, and the instances of epoll that watch it.

    It may lie in another structure, which has an address for it.
    """

    def __init__(self, mem: Memory, walks: dict[int, Any], address: int = 0) -> None:
        self._mem, self._walks = mem, walks
        self._is_own = not address
        self.address = address or mem.alloc(size_of("wait_queue_head"), what="struct wait_queue_head")
        self.queue = WaitQueue()
        self.waiters: list[Waiter] = []
        self.watchers: list[Any] = []
        # counts what happened here, for those who want to know of each thing once
        self.events = 0
        walks[self.address] = self

    @property
    def has_sleeper(self) -> bool:
        """Whether anybody waits here or watches (``wq_has_sleeper``)."""
        return bool(self.waiters or self.watchers or len(self.queue))

    def free(self) -> None:
        """Give the memory back."""
        del self._walks[self.address]
        if self._is_own:
            self._mem.free(self.address)


def wake(k: Any, cpu: Cpu, head: WaitHead, *, sync: bool = True) -> None:
    """Wake who waits at a queue."""
    head.events += 1
    if sync:
        k.functions.__wake_up_sync_key(cpu, head.address, 1, 1)
    else:
        k.functions.__wake_up(cpu, head.address, TASK_NORMAL, 1, 1)


@kernel_function
def __wake_up_common(k: Any, cpu: Cpu, wq_head: int, mode: int, nr: int, flags: int, key: int) -> int:
    """Wake who waits at a queue, each by the function that its entry has."""
    head = k.walks.get(wq_head)
    if not isinstance(head, WaitHead):
        return 0
    for watcher in list(head.watchers):
        watcher.called_back(k, cpu, mode, flags, key)
    for task in head.queue.take():
        _wake_entry(k, cpu, task, "autoremove_wake_function", mode, flags, key)
    for waiter in list(head.waiters):
        head.waiters.remove(waiter)
        _wake_entry(k, cpu, waiter.task, waiter.function, mode, flags, key)
        nr -= waiter.exclusive
        if waiter.exclusive and not nr:
            break
    return 0


def _wake_entry(k: Any, cpu: Cpu, task: Task, function: str, mode: int, flags: int, key: int) -> None:
    entry = k.mem.alloc(size_of("wait_queue_entry"))
    k.mem.store(entry + _PRIVATE, 8, task.address)
    getattr(k.functions, function)(cpu, entry, mode, flags, key)
    k.mem.free(entry)


@kernel_function
def autoremove_wake_function(k: Any, cpu: Cpu, wq_entry: int, mode: int, sync: int, key: int) -> int:
    """Wake the task of an entry, which goes with that."""
    return int(k.functions.default_wake_function(cpu, wq_entry, mode, sync, key))


@kernel_function
def ep_autoremove_wake_function(k: Any, cpu: Cpu, wq_entry: int, mode: int, sync: int, key: int) -> int:
    """Wake the task of an entry, which goes with that."""
    return int(k.functions.default_wake_function(cpu, wq_entry, mode, sync, key))


@kernel_function
def receiver_wake_function(k: Any, cpu: Cpu, wait: int, mode: int, sync: int, key: int) -> int:
    """Wake a task that waits for a datagram."""
    return int(k.functions.autoremove_wake_function(cpu, wait, mode, sync, key))


@kernel_function
def woken_wake_function(k: Any, cpu: Cpu, wq_entry: int, mode: int, sync: int, key: int) -> int:
    """Wake a task that looks for itself whether it was woken."""
    return int(k.functions.default_wake_function(cpu, wq_entry, mode, sync, key))


@kernel_function
def default_wake_function(k: Any, cpu: Cpu, curr: int, mode: int, wake_flags: int, _key: int) -> int:
    """Wake the task of an entry."""
    return int(k.functions.try_to_wake_up(cpu, k.mem.load(curr + _PRIVATE, 8), mode or TASK_NORMAL, wake_flags))


def wait_for(k: Any, task: Task, heads: Sequence[WaitHead], timeout_ns: int | None = None) -> bool:
    """Let the current task wait at queues; False when time was over. Whoever calls it looks for signals."""
    if interrupted(task):
        return True
    for head in heads:
        head.queue.add(task)
    woken = k.sched.wait(None, timeout_ns=timeout_ns)
    for head in heads:
        head.queue.remove(task)
    return bool(woken)
