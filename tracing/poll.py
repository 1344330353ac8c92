"""Waiting for several files: poll(2), select(2), epoll(7), and eventfd(2) (fs/{select,eventpoll,eventfd}.c, v6.18).

What can be waited for says so by ``poll(file)`` and ``heads(file)`` of what its file is for (``File.private``); all
other files are always ready. Left out: epoll instances in epoll instances, priorities, busy polling.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault
from tracing.fs import file_at, is_err
from tracing.functions import kernel_function
from tracing.open import O_CLOEXEC, O_NONBLOCK, make_anon_file
from tracing.read_write import Kiocb
from tracing.signals import ERESTARTSYS, interrupted, set_blocked
from tracing.syscalls import syscall
from tracing.task import Task
from tracing.vfs import File
from tracing.waiting import WaitHead, _wake_entry, wait_for, wake

__all__ = ["Epoll", "EventFd"]

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDNORM, POLLWRNORM = 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x100
DEFAULT_POLLMASK = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM
EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD = 1, 2, 3
EPOLLONESHOT, EPOLLET = 1 << 30, 1 << 31
EP_MAX_EVENTS, NR_OPEN, FD_SETSIZE = 178956970, 1024, 1024
EFD_SEMAPHORE = 1
ULLONG_MAX = (1 << 64) - 1
NSEC_PER_MSEC, NSEC_PER_SEC = 1_000_000, 1_000_000_000
_POLLFD, _EVENT = Struct("<iHH"), Struct("<IQ")
EVENTPOLL_OPS = {"release": "ep_eventpoll_release"}
EVENTFD_OPS = {
    "read_iter": "eventfd_read",
    "write": "eventfd_write",
    "poll": "eventfd_poll",
    "release": "eventfd_release",
}


def ready(k: Any, cpu: Cpu, file: File) -> int:
    """Return what can be done with a file without waiting (vfs_poll)."""
    own = file.ops.get("poll")
    if own is not None and file.private is not None:
        return int(getattr(k.functions, own)(cpu, file.address, 0))
    poll = getattr(file.private, "poll", None)
    return int(poll(file)) if poll is not None else DEFAULT_POLLMASK


def heads_of(file: File) -> list[WaitHead]:
    """Return where one waits for a file."""
    heads = getattr(file.private, "heads", None)
    return list(heads(file)) if heads is not None else []


# ---- eventfd ---------------------------------------------------------------------------------------------------------


class EventFd:
    """``struct eventfd_ctx``: a counter that can be waited for."""

    def __init__(self, k: Any, count: int, flags: int) -> None:
        self.count, self.flags = count, flags
        self.wait = WaitHead(k.mem, k.walks)

    def poll(self, _file: File) -> int:
        """Return what can be done without waiting."""
        mask = POLLIN if self.count else 0
        mask |= POLLERR if self.count == ULLONG_MAX else 0
        return mask | (POLLOUT if self.count < ULLONG_MAX - 1 else 0)

    def heads(self, _file: File) -> list[WaitHead]:
        """Return where one waits for it."""
        return [self.wait]


@syscall(284)
def sys_eventfd(k: Any, cpu: Cpu, count: int) -> int:
    return int(k.functions.do_eventfd(cpu, u32(count), 0))


@syscall(290)
def sys_eventfd2(k: Any, cpu: Cpu, count: int, flags: int) -> int:
    return int(k.functions.do_eventfd(cpu, u32(count), u32(flags)))


@kernel_function
def do_eventfd(k: Any, cpu: Cpu, count: int, flags: int) -> int:
    """Make a counter and its descriptor; EINVAL, EMFILE."""
    functions = k.functions
    if flags & ~(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE):
        return -Errno.EINVAL
    context = EventFd(k, count, flags)
    functions.__init_waitqueue_head(cpu, context.wait.address, 0, 0)
    fd = _anon_fd(k, cpu, "[eventfd]", EVENTFD_OPS, flags & (O_CLOEXEC | O_NONBLOCK) | 2, context)
    if fd < 0:
        context.wait.free()
    return fd


def _anon_fd(k: Any, cpu: Cpu, name: str, ops: dict[str, str], flags: int, private: object) -> int:
    functions = k.functions
    fd: int = functions.get_unused_fd_flags(cpu, flags)
    if fd < 0:
        return fd
    room = k.mem.alloc(8)
    k.walks[room] = (name, ops, private)
    file = functions.anon_inode_getfile(cpu, 0, 0, room, flags & ~O_CLOEXEC)
    del k.walks[room]
    k.mem.free(room)
    if is_err(file):
        functions.put_unused_fd(cpu, fd)
        return is_err(file)
    functions.fd_install(cpu, fd, file)
    return fd


@kernel_function
def anon_inode_getfile(k: Any, cpu: Cpu, _name: int, _fops: int, priv: int, flags: int) -> int:
    """Return a file that is nothing but what is behind it."""
    name, ops, private = k.walks[priv]
    return make_anon_file(k, cpu, name, ops, flags, private)


@kernel_function
def eventfd_read(k: Any, cpu: Cpu, iocb: int, to: int) -> int:
    """Take the counter, or 1 of it; wait while it is 0; EINVAL, EAGAIN, EFAULT."""
    task, into = k.sched.current(cpu), k.walks[to]
    file = file_at(k, Kiocb(k.mem, iocb).ki_filp)
    context = file.private
    assert isinstance(context, EventFd)
    if into.count < 8:
        return -Errno.EINVAL
    while not context.count:
        if file.struct.f_flags & O_NONBLOCK:
            return -Errno.EAGAIN
        if interrupted(task):
            return -ERESTARTSYS
        wait_for(k, task, [context.wait])
    taken = 1 if context.flags & EFD_SEMAPHORE else context.count
    context.count -= taken
    if len(context.wait.queue):
        wake(k, cpu, context.wait)
    return 8 if into.put(taken.to_bytes(8, "little")) == 8 else -Errno.EFAULT


@kernel_function
def eventfd_write(k: Any, cpu: Cpu, file: int, buf: int, count: int, _ppos: int) -> int:
    """Add to the counter; wait while it has no room; EINVAL, EAGAIN, EFAULT."""
    task, opened = k.sched.current(cpu), file_at(k, file)
    context = opened.private
    assert isinstance(context, EventFd)
    if count < 8:
        return -Errno.EINVAL
    try:
        added = int.from_bytes(task.user.read(buf, 8), "little")
    except UserFault:
        return -Errno.EFAULT
    if added == ULLONG_MAX:
        return -Errno.EINVAL
    while ULLONG_MAX - context.count <= added:
        if opened.struct.f_flags & O_NONBLOCK:
            return -Errno.EAGAIN
        if interrupted(task):
            return -ERESTARTSYS
        wait_for(k, task, [context.wait])
    context.count += added
    if len(context.wait.queue) or context.wait.watchers:
        wake(k, cpu, context.wait)
    return 8


@kernel_function
def eventfd_poll(k: Any, _cpu: Cpu, file: int, _wait: int) -> int:
    """Return what can be done with a counter without waiting."""
    opened = file_at(k, file)
    assert isinstance(opened.private, EventFd)
    return opened.private.poll(opened)


@kernel_function
def eventfd_release(k: Any, cpu: Cpu, _inode: int, file: int) -> int:
    """Let a counter go."""
    context = file_at(k, file).private
    assert isinstance(context, EventFd)
    wake(k, cpu, context.wait, sync=False)
    context.wait.free()
    return 0


# ---- poll, select ----------------------------------------------------------------------------------------------------


def _wait_until(k: Any, cpu: Cpu, files: list[File], look: Any, timeout_ns: int | None) -> int:
    # look at all files until one is ready, time is over or a signal comes
    task: Task = k.sched.current(cpu)
    end_ns = None if timeout_ns is None else cpu.now_ns + timeout_ns
    while True:
        found = int(look())
        if found:
            return found
        if interrupted(task):
            return -ERESTARTSYS
        left = None if end_ns is None else end_ns - k.sched.cpu_of(task).now_ns
        if left is not None and left <= 0:
            return 0
        if not _slept(k, cpu, [head for file in files for head in heads_of(file)], left):
            return int(look())


def _slept(k: Any, cpu: Cpu, heads: list[WaitHead], left_ns: int | None) -> bool:
    # whether somebody came before the time was over
    room = k.mem.alloc(16)
    k.walks[room] = left_ns, heads
    k.functions.schedule_hrtimeout_range(cpu, room, 0, 0)
    woken = bool(k.walks.pop((room, "woken")))
    del k.walks[room]
    k.mem.free(room)
    return woken


def _timeout_ms(milliseconds: int) -> int | None:
    return None if s32(milliseconds) < 0 else s32(milliseconds) * NSEC_PER_MSEC


@syscall(7)
def sys_poll(k: Any, cpu: Cpu, ufds: int, nfds: int, timeout_msecs: int) -> int:
    functions = k.functions
    if s32(timeout_msecs) >= 0:
        functions.poll_select_set_timeout(cpu, 0, s32(timeout_msecs) // 1000, 0)
        if s32(timeout_msecs):
            functions.timespec64_add_safe(cpu, 0, 0, 0, 0)
    return _polled(k, cpu, ufds, u32(nfds), _timeout_ms(timeout_msecs))


def _polled(k: Any, cpu: Cpu, ufds: int, nfds: int, timeout_ns: int | None) -> int:
    room = k.mem.alloc(16)
    k.walks[room] = timeout_ns
    ret: int = k.functions.do_sys_poll(cpu, ufds, nfds, room)
    del k.walks[room]
    k.mem.free(room)
    return -Errno.EINTR if ret == -ERESTARTSYS else ret


@syscall(271)
def sys_ppoll(k: Any, cpu: Cpu, ufds: int, nfds: int, tsp: int, sigmask: int, sigsetsize: int) -> int:
    task: Task = k.sched.current(cpu)
    try:
        timeout_ns = _timespec(task, tsp) if tsp else None
    except UserFault:
        return -Errno.EFAULT
    if timeout_ns is not None and timeout_ns < 0:
        return -Errno.EINVAL
    if sigmask and sigsetsize != 8:
        return -Errno.EINVAL
    before = task.sig.blocked
    try:
        if sigmask and task.user is not None:
            set_blocked(k, cpu, task, int.from_bytes(task.user.read(sigmask, 8), "little"))
    except UserFault:
        return -Errno.EFAULT
    ret = _polled(k, cpu, ufds, u32(nfds), timeout_ns)
    task.sig.blocked = before
    return ret


def _timespec(task: Task, address: int, *, micro: bool = False) -> int:
    # nanoseconds, negative for a time that is none
    assert task.user is not None
    data = task.user.read(address, 16)
    seconds, rest = (s64(int.from_bytes(data[at : at + 8], "little")) for at in (0, 8))
    unit = 1000 if micro else 1
    if seconds < 0 or not 0 <= rest * unit < NSEC_PER_SEC:
        return -1
    return min(seconds, 1 << 32) * NSEC_PER_SEC + rest * unit


class _Table:
    # struct poll_wqueues: who waits at which files; with nothing to wait for nobody does, and none after one is ready
    def __init__(self, k: Any, cpu: Cpu, timeout_ns: int | None) -> None:
        self.k, self.cpu, self.waits = k, cpu, timeout_ns is None or timeout_ns > 0
        if timeout_ns:
            k.functions.select_estimate_accuracy(cpu, 0)
        self.files: list[File] = []

    def look(self, file: File) -> int:
        mask = ready(self.k, self.cpu, file)
        for _ in heads_of(file) if self.waits else ():
            file.get()
            self.files.append(file)
            self.k.functions.add_wait_queue(self.cpu, 0, 0)
        return mask

    def found(self, mask: int) -> None:
        if mask:
            self.waits = False

    def free(self) -> None:
        functions = self.k.functions
        functions.poll_freewait(self.cpu, 0)
        for file in self.files:
            functions.remove_wait_queue(self.cpu, 0, 0)
            functions.fput(self.cpu, file.address)


@kernel_function
def do_sys_poll(k: Any, cpu: Cpu, ufds: int, nfds: int, end_time: int) -> int:
    """Wait until one of several files is ready: how many are; EINVAL, EFAULT."""
    functions, task = k.functions, k.sched.current(cpu)
    if nfds > NR_OPEN:
        return -Errno.EINVAL
    try:
        rows = list(_POLLFD.iter_unpack(task.user.read(ufds, _POLLFD.size * nfds)))
    except UserFault:
        return -Errno.EFAULT
    answers = [0] * nfds
    files = [file for fd, _, _ in rows if isinstance(file := task.files.lookup(fd), File)]
    table = _Table(k, cpu, k.walks[end_time])

    def look() -> int:
        for index, (fd, events, _) in enumerate(rows):
            file = task.files.lookup(fd) if fd >= 0 else None
            answers[index] = 0
            if fd >= 0:
                functions.fdget(cpu, fd)
                wanted = events | POLLERR | POLLHUP
                if isinstance(file, File):
                    answers[index] = table.look(file) & wanted
                else:
                    answers[index] = POLLNVAL if file is None else DEFAULT_POLLMASK & wanted
                table.found(answers[index])
        table.waits = False
        return sum(map(bool, answers))

    ret = _wait_until(k, cpu, files, look, k.walks[end_time])
    table.free()
    data = b"".join(_POLLFD.pack(fd, events, got) for (fd, events, _), got in zip(rows, answers, strict=True))
    try:
        task.user.write(ufds, data)
    except UserFault:
        return -Errno.EFAULT
    return ret


@syscall(23)
def sys_select(k: Any, cpu: Cpu, n: int, inp: int, outp: int, exp: int, tvp: int) -> int:
    task: Task = k.sched.current(cpu)
    try:
        timeout_ns = _timespec(task, tvp, micro=True) if tvp else None
    except UserFault:
        return -Errno.EFAULT
    if timeout_ns is not None and timeout_ns < 0:
        return -Errno.EINVAL
    room = k.mem.alloc(16)
    k.walks[room] = timeout_ns
    ret: int = k.functions.core_sys_select(cpu, s32(n), inp, outp, exp, room)
    del k.walks[room]
    k.mem.free(room)
    return -Errno.EINTR if ret == -ERESTARTSYS else ret


@kernel_function
def core_sys_select(k: Any, cpu: Cpu, n: int, inp: int, outp: int, exp: int, end_time: int) -> int:
    """Wait until one of several files is ready, which sets of bits name; EINVAL, EBADF, EFAULT."""
    task, n = k.sched.current(cpu), s32(n)
    if n < 0:
        return -Errno.EINVAL
    n = min(n, FD_SETSIZE)
    size = -(-n // 64) * 8
    sets, masks = [], (POLLIN | POLLRDNORM | POLLHUP | POLLERR, POLLOUT | POLLWRNORM | POLLERR, POLLPRI)
    try:
        for address in (inp, outp, exp):
            sets.append(int.from_bytes(task.user.read(address, size), "little") & (1 << n) - 1 if address else 0)
    except UserFault:
        return -Errno.EFAULT
    wanted = [fd for fd in range(n) if any(bits >> fd & 1 for bits in sets)]
    if any(task.files.lookup(fd) is None for fd in wanted):
        return -Errno.EBADF
    answers = [0, 0, 0]
    files = [file for fd in wanted if isinstance(file := task.files.lookup(fd), File)]
    table = _Table(k, cpu, k.walks[end_time])

    def look() -> int:
        answers[:] = [0, 0, 0]
        for fd in wanted:
            file = task.files.lookup(fd)
            k.functions.fdget(cpu, fd)
            mask = table.look(file) if isinstance(file, File) else DEFAULT_POLLMASK
            for index, bits in enumerate(sets):
                if bits >> fd & 1 and mask & masks[index]:
                    answers[index] |= 1 << fd
            table.found(sum(answers))
        table.waits = False
        return sum(bits.bit_count() for bits in answers)

    ret = _wait_until(k, cpu, files, look, k.walks[end_time])
    table.free()
    try:
        for address, bits in zip((inp, outp, exp), answers, strict=True):
            if address and size and ret >= 0:
                task.user.write(address, bits.to_bytes(size, "little"))
    except UserFault:
        return -Errno.EFAULT
    return ret


# ---- epoll -----------------------------------------------------------------------------------------------------------


class _Item:
    # ``struct epitem``: a file that is watched
    __slots__ = ("data", "events", "fd", "file", "seen")

    def __init__(self, fd: int, file: File, events: int, data: int) -> None:
        self.fd, self.file, self.events, self.data = fd, file, events, data
        # how many things had happened when it was reported last (EPOLLET)
        self.seen = -1

    def happened(self) -> int:
        return sum(head.events for head in heads_of(self.file))


# an item whose places in queues are given back already (ep_unregister_pollwait)
CLEARED = 1


class Epoll:
    """``struct eventpoll``: files that are watched, and who waits for them."""

    def __init__(self, k: Any) -> None:
        self.items: dict[tuple[int, int], _Item] = {}
        self.wait = WaitHead(k.mem, k.walks)

    def called_back(self, k: Any, cpu: Cpu, mode: int, flags: int, key: int) -> None:
        """Something has happened at a file that is watched."""
        functions = k.functions
        room = k.mem.alloc(40)
        functions.ep_poll_callback(cpu, room, mode, flags, key)
        k.mem.free(room)
        if len(self.wait.queue):
            functions.__wake_up_sync(cpu, self.wait.address, mode)
            for task in self.wait.queue.take():
                _wake_entry(k, cpu, task, "ep_autoremove_wake_function", mode, flags, key)

    def add(self, item: _Item) -> None:
        """Watch a file."""
        self.items[item.fd, item.file.address] = item
        for head in heads_of(item.file):
            if self not in head.watchers:
                head.watchers.append(self)

    def drop(self, file: File) -> None:
        """Watch a file no more that goes (eventpoll_release)."""
        for item in [item for item in self.items.values() if item.file is file]:
            self.remove(item)

    def remove(self, item: _Item) -> None:
        """Watch a file no more."""
        del self.items[item.fd, item.file.address]
        if not any(other.file is item.file for other in self.items.values()):
            for head in heads_of(item.file):
                if self in head.watchers:
                    head.watchers.remove(self)


@syscall(213)
def sys_epoll_create(k: Any, cpu: Cpu, size: int) -> int:
    return -Errno.EINVAL if s32(size) <= 0 else int(k.functions.do_epoll_create(cpu, 0))


@syscall(291)
def sys_epoll_create1(k: Any, cpu: Cpu, flags: int) -> int:
    return int(k.functions.do_epoll_create(cpu, u32(flags)))


@kernel_function
def do_epoll_create(k: Any, cpu: Cpu, flags: int) -> int:
    """Make an instance of epoll and its descriptor; EINVAL, EMFILE."""
    if flags & ~O_CLOEXEC:
        return -Errno.EINVAL
    epoll = Epoll(k)
    k.functions.__init_waitqueue_head(cpu, epoll.wait.address, 0, 0)
    k.functions.__init_waitqueue_head(cpu, 0, 0, 0)
    fd = _anon_fd(k, cpu, "[eventpoll]", EVENTPOLL_OPS, flags | 2, epoll)
    if fd < 0:
        epoll.wait.free()
    return fd


@syscall(233)
def sys_epoll_ctl(k: Any, cpu: Cpu, epfd: int, op: int, fd: int, event: int) -> int:
    return int(k.functions.do_epoll_ctl(cpu, s32(epfd), s32(op), s32(fd), event, 0))


@kernel_function
def do_epoll_ctl(k: Any, cpu: Cpu, epfd: int, op: int, fd: int, epds: int, _nonblock: int) -> int:
    """Watch a file, watch it otherwise, or no more: EBADF, EPERM, EINVAL, EEXIST, ENOENT."""
    functions, task = k.functions, k.sched.current(cpu)
    try:
        events, data = _EVENT.unpack(task.user.read(epds, 12)) if op != EPOLL_CTL_DEL else (0, 0)
    except UserFault:
        return -Errno.EFAULT
    functions.fdget(cpu, epfd)
    functions.fdget(cpu, fd)
    instance, file = task.files.lookup(epfd), task.files.lookup(fd)
    if instance is None or file is None:
        return -Errno.EBADF
    if not isinstance(file, File) or not hasattr(file.private, "poll"):
        return -Errno.EPERM
    if not isinstance(instance, File) or not isinstance(instance.private, Epoll) or instance is file:
        return -Errno.EINVAL
    return _control(k, cpu, instance.private, op, fd, file, events | POLLERR | POLLHUP, data)


def _touch(k: Any, cpu: Cpu, file: File) -> None:
    # a reference that was taken for a moment (epi_fget)
    file.get()
    k.functions.fput(cpu, file.address)


def _control(k: Any, cpu: Cpu, epoll: Epoll, op: int, fd: int, file: File, events: int, data: int) -> int:
    functions = k.functions
    item = epoll.items.get((fd, file.address))
    if op == EPOLL_CTL_ADD:
        if item is not None:
            return -Errno.EEXIST
        functions.reverse_path_check_proc(cpu, 0, 0)
        item = _Item(fd, file, events, data)
        epoll.add(item)
        if ready(k, cpu, file) & events:
            wake(k, cpu, epoll.wait, sync=False)
        for head in heads_of(file):
            functions.ep_ptable_queue_proc(cpu, file.address, head.address, 0)
        _touch(k, cpu, file)
        _touch(k, cpu, file)
        return 0
    if item is None:
        return -Errno.ENOENT if op in (EPOLL_CTL_DEL, EPOLL_CTL_MOD) else -Errno.EINVAL
    if op == EPOLL_CTL_DEL:
        room = k.mem.alloc(8)
        k.walks[room], k.walks[room, "item"] = epoll, item
        functions.ep_remove(cpu, room, 0)
        del k.walks[room], k.walks[room, "item"]
        k.mem.free(room)
        return 0
    if op != EPOLL_CTL_MOD:
        return -Errno.EINVAL
    item.events, item.data, item.seen = events, data, -1
    if ready(k, cpu, file) & events:
        wake(k, cpu, epoll.wait, sync=False)
    _touch(k, cpu, file)
    return 0


@syscall(232)
def sys_epoll_wait(k: Any, cpu: Cpu, epfd: int, events: int, maxevents: int, timeout: int) -> int:
    if s32(timeout) > 0:
        k.functions.timespec64_add_safe(cpu, 0, 0, 0, 0)
    return _epoll_waited(k, cpu, epfd, events, maxevents, _timeout_ms(timeout))


def _epoll_waited(k: Any, cpu: Cpu, epfd: int, events: int, maxevents: int, timeout_ns: int | None) -> int:
    room = k.mem.alloc(16)
    k.walks[room] = timeout_ns
    ret: int = k.functions.do_epoll_wait(cpu, s32(epfd), events, s32(maxevents), room)
    del k.walks[room]
    k.mem.free(room)
    return -Errno.EINTR if ret == -ERESTARTSYS else ret


@syscall(281)
def sys_epoll_pwait(
    k: Any, cpu: Cpu, epfd: int, events: int, maxevents: int, timeout: int, sigmask: int, sigsetsize: int
) -> int:
    task: Task = k.sched.current(cpu)
    before = task.sig.blocked
    if sigmask:
        if sigsetsize != 8:
            return -Errno.EINVAL
        try:
            mask = int.from_bytes(task.user.read(sigmask, 8), "little") if task.user is not None else 0
        except UserFault:
            return -Errno.EFAULT
        set_blocked(k, cpu, task, mask)
    ret = _epoll_waited(k, cpu, epfd, events, maxevents, _timeout_ms(timeout))
    task.sig.blocked = before
    return ret


@kernel_function
def do_epoll_wait(k: Any, cpu: Cpu, epfd: int, events: int, maxevents: int, to: int) -> int:
    """Wait until one of the files that are watched is ready; how many events there are; EINVAL, EBADF, EFAULT."""
    functions, task, maxevents = k.functions, k.sched.current(cpu), s32(maxevents)
    if not 0 < maxevents <= EP_MAX_EVENTS:
        return -Errno.EINVAL
    functions.fdget(cpu, epfd)
    file = task.files.lookup(s32(epfd))
    if file is None:
        return -Errno.EBADF
    if not isinstance(file, File) or not isinstance(file.private, Epoll):
        return -Errno.EINVAL
    epoll, timeout_ns = file.private, k.walks[to]
    if timeout_ns:
        functions.select_estimate_accuracy(cpu, to)
    found: list[tuple[_Item, int]] = []
    while True:
        found = _scan(k, cpu, epoll, maxevents)
        if found or timeout_ns == 0:
            break
        if interrupted(task):
            return -ERESTARTSYS
        before = cpu.now_ns
        functions.schedule_hrtimeout_range(cpu, to, 0, 0)
        now = k.sched.cpu_of(task).now_ns
        woken = k.walks.pop((to, "woken"), True)
        if timeout_ns is not None:
            timeout_ns = max(0, timeout_ns - (now - before))
            k.walks[to] = timeout_ns
        if not woken:
            break
    data = b"".join(_EVENT.pack(mask, item.data) for item, mask in found)
    try:
        task.user.write(events, data)
    except UserFault:
        return -Errno.EFAULT
    return len(found)


def _scan(k: Any, cpu: Cpu, epoll: Epoll, most: int) -> list[tuple[_Item, int]]:
    # ep_send_events()
    functions = k.functions
    found: list[tuple[_Item, int]] = []
    if not epoll.items:
        return []
    functions.ep_start_scan(cpu, 0, 0)
    for item in list(epoll.items.values()):
        if item.file.refs <= 0 or len(found) >= most:
            continue
        mask = ready(k, cpu, item.file) & item.events & 0xFFFF
        _touch(k, cpu, item.file)
        if not mask or (item.events & EPOLLET and item.seen == item.happened()):
            continue
        item.seen = item.happened()
        found.append((item, mask))
        if item.events & EPOLLONESHOT:
            item.events = 0
    functions.ep_done_scan(cpu, 0, 0)
    return found


@kernel_function
def schedule_hrtimeout_range(k: Any, cpu: Cpu, expires: int, delta: int, mode: int) -> int:
    """Wait for an instance of epoll, at most so long as whoever asks wants."""
    return int(k.functions.schedule_hrtimeout_range_clock(cpu, expires, delta, mode, 1))


@kernel_function
def schedule_hrtimeout_range_clock(k: Any, cpu: Cpu, expires: int, _delta: int, _mode: int, _clock: int) -> int:
    """Wait for what whoever asks waits for, at most so long as it wants."""
    task, asked = k.sched.current(cpu), k.walks[expires]
    if isinstance(asked, tuple):
        left_ns, heads = asked
        k.walks[expires, "woken"] = wait_for(k, task, heads, left_ns)
        return 0
    epolls = [file.private for fd in task.files.numbers() if isinstance(file := task.files.lookup(fd), File)]
    heads = [epoll.wait for epoll in epolls if isinstance(epoll, Epoll)]
    k.walks[expires, "woken"] = wait_for(k, task, heads, asked)
    return 0


@kernel_function
def ep_eventpoll_release(k: Any, cpu: Cpu, _inode: int, file: int) -> int:
    """Let an instance of epoll go."""
    room = k.mem.alloc(8)
    k.walks[room] = file_at(k, file).private
    k.functions.ep_clear_and_put(cpu, room)
    del k.walks[room]
    k.mem.free(room)
    return 0


@kernel_function
def ep_remove(k: Any, cpu: Cpu, ep: int, epi: int) -> None:
    """Watch a file no more."""
    functions, item = k.functions, k.walks[ep, "item"]
    if epi != CLEARED:
        for _ in heads_of(item.file):
            functions.remove_wait_queue(cpu, 0, 0)
    functions.ep_remove_epi(cpu, ep, epi)
    functions.ep_refcount_dec_and_test(cpu, ep)
    k.walks[ep].remove(item)
    _touch(k, cpu, item.file)


@kernel_function
def ep_clear_and_put(k: Any, cpu: Cpu, ep: int) -> None:
    """Watch nothing any more."""
    functions, epoll = k.functions, k.walks[ep]
    for item in list(epoll.items.values()):
        for _ in heads_of(item.file):
            functions.remove_wait_queue(cpu, 0, 0)
        k.walks[ep, "item"] = item
        functions.ep_remove(cpu, ep, CLEARED)
        del k.walks[ep, "item"]
    functions.ep_refcount_dec_and_test(cpu, ep)
    functions.free_uid(cpu, 0)
    functions.kvfree_call_rcu(cpu, 0, 0)
    epoll.wait.free()
