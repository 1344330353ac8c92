"""What AF_UNIX sockets send and receive, with files and credentials (net/unix/af_unix.c, net/core/scm.c, v6.18)."""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import AttachType
from netstack.drop_reasons import SkbDropReason
from netstack.ip_cmsg import recv_timestamp
from netstack.marks import touch
from netstack.msg import (
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    Message,
    copied_to_user,
    message_at,
    put_cmsg_to,
)  # fmt: skip
from netstack.sock_wait import Patience, receive_wait, wake_head
from netstack.socket_api import int_of
from netstack.sockfs import SocketKernel, TaskSocket
from netstack.unix_path import checked_name, put_sock, unix_at
from netstack.unix_sock import (
    OVERFLOW_ID,
    SOCK_SEQPACKET,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    PeerCred,
    UnixSkb,
    UnixSock,
)  # fmt: skip
from tracing.cred import CAP_SETGID, CAP_SETUID
from tracing.fs import is_err, task_of
from tracing.functions import kernel_function
from tracing.open import O_CLOEXEC
from tracing.signals import PIDTYPE_PID, SEND_SIG_PRIV
from tracing.vfs import File

__all__ = ["free_skb", "purge"]

SOL_SOCKET, SCM_RIGHTS, SCM_CREDENTIALS, SCM_MAX_FD = 1, 1, 2, 253
RCV_SHUTDOWN, SEND_SHUTDOWN = 1, 2
CAP_SYS_ADMIN = 21
SIGPIPE, NR_OPEN = 13, 1024
SKB_MAX_HEAD = 4096 - 320  # SKB_MAX_HEAD(0)
SKB_MAX_ALLOC = 16384 - 320  # SKB_MAX_ORDER(0, 2)
UNIX_SKB_FRAGS_SZ = 32768
MAX_SCHEDULE_TIMEOUT = (1 << 63) - 1
_UCRED, _CMSG_HEADER = Struct("<iII"), 16


class Scm:
    """``struct scm_cookie``: files and who sends them."""

    def __init__(self, cred: PeerCred) -> None:
        self.cred = cred
        self.files: list[KernelObject] = []


# ---- packets ---------------------------------------------------------------------------------------------------------


def free_skb(k: SocketKernel, cpu: Cpu, skb: UnixSkb, *, purged: bool = False) -> None:
    """Let a packet go; who sent it has room again, files in it are closed."""
    sender, files = skb.sender, skb.files
    skb.files = []
    if skb.paid:
        sender.charge(-skb.truesize)
    functions: Any = k.net.functions

    def space(cpu: Cpu) -> None:
        k.functions.unix_write_space(cpu, sender.struct_address)

    skb.space = space
    if functions.watched or k.net.tracepoints.watched:
        if purged:
            functions.sk_skb_reason_drop(cpu, None, skb, SkbDropReason.NOT_SPECIFIED)
        else:
            functions.consume_skb(cpu, skb)
    if not functions.watched:
        # otherwise the packet's destructor has done so
        space(cpu)
    for file in files:
        _close(k, cpu, file)
    skb.free()
    put_sock(k, cpu, sender)


def purge(k: SocketKernel, cpu: Cpu, sk: UnixSock) -> None:
    """Forget all that was not read."""
    while sk.queue:
        skb = sk.queue[0]
        sk.unlink(skb)
        free_skb(k, cpu, skb, purged=True)


def _close(k: SocketKernel, cpu: Cpu, file: KernelObject) -> None:
    if isinstance(file, File):
        k.functions.fput(cpu, file.address)
    else:
        file.put()


def _skb(k: SocketKernel, cpu: Cpu, sk: UnixSock, data: bytes, linear: int, scm: Scm, *, files: bool) -> UnixSkb:
    # a packet that its sender pays for (sock_alloc_send_pskb has found room for it)
    skb = UnixSkb(sk, data, linear)
    sk.refs += 1
    skb.paid = True
    sk.charge(skb.truesize)
    skb.time_ns = cpu.now_ns
    skb.cred = scm.cred
    if files:
        skb.files, scm.files = scm.files, []
    return skb


def _wait_for_room(k: SocketKernel, cpu: Cpu, socket: TaskSocket, sk: UnixSock, patience: Patience) -> int:
    # sock_alloc_send_pskb(): 0 once less is under way than there is room for
    while True:
        error = sk.take_error()
        if error:
            return -error
        if sk.sk_shutdown & SEND_SHUTDOWN:
            return -Errno.EPIPE
        if sk.wmem < sk.sndbuf:
            return 0
        if patience.left == 0:
            return -Errno.EAGAIN
        err = patience.wait(k, cpu, socket.wait)
        if err:
            return err


def _show_alloc(k: SocketKernel, cpu: Cpu, sk: UnixSock) -> None:
    if k.net.functions.watched:
        touch(cpu, "sock_alloc_send_pskb", sock=sk)


# ---- files and credentials -------------------------------------------------------------------------------------------


def _scm_send(k: SocketKernel, cpu: Cpu, msg: Message) -> Scm | int:
    # scm_send()
    task = task_of(k, cpu)
    scm = Scm(PeerCred(task.tgid, task.cred.uid, task.cred.gid))
    k.functions.security_socket_getpeersec_dgram(cpu, 0, 0, 0)
    if not msg.control:
        return scm
    msg.scm = scm
    err = int_of(k.functions.__scm_send(cpu, 0, msg.address, 0))
    if err:
        for file in scm.files:
            _close(k, cpu, file)
        return err
    return scm


@kernel_function
def __scm_send(k: SocketKernel, cpu: Cpu, _sock: int, msg: int, _p: int) -> int:
    """Take files and credentials from control messages: EINVAL, EBADF, EPERM."""
    sent = message_at(k, msg)
    for level, kind, data in sent.control:
        if level != SOL_SOCKET:
            continue
        if kind == SCM_RIGHTS:
            err = _take_files(k, cpu, sent.scm, data)
        elif kind == SCM_CREDENTIALS:
            err = _take_credentials(k, cpu, sent.scm, data)
        else:
            err = -Errno.EINVAL
        if err:
            return err
    return 0


def _take_files(k: SocketKernel, cpu: Cpu, scm: Scm, data: bytes) -> int:
    # scm_fp_copy()
    count = len(data) // 4
    if len(scm.files) + count > SCM_MAX_FD:
        return -Errno.EINVAL
    files = task_of(k, cpu).files
    for at in range(count):
        file = files.lookup(int.from_bytes(data[4 * at : 4 * at + 4], "little"))
        if file is None:
            return -Errno.EBADF
        file.get()
        scm.files.append(file)
    return 0


def _take_credentials(k: SocketKernel, cpu: Cpu, scm: Scm, data: bytes) -> int:
    # scm_check_creds()
    if len(data) != _UCRED.size:
        return -Errno.EINVAL
    pid, uid, gid = _UCRED.unpack(data)
    task = task_of(k, cpu)
    cred, functions = task.cred, k.functions

    def may(cap: int) -> bool:
        return not functions.security_capable(cpu, cred.address, cred.user_ns, cap, 0)

    if not (pid == task.tgid or may(CAP_SYS_ADMIN)):
        return -Errno.EPERM
    if not (uid in (cred.uid, cred.euid, cred.suid) or may(CAP_SETUID)):
        return -Errno.EPERM
    if not (gid in (cred.gid, cred.egid, cred.sgid) or may(CAP_SETGID)):
        return -Errno.EPERM
    if pid not in k.sched.tasks:
        return -Errno.ESRCH
    scm.cred = PeerCred(pid, uid, gid)
    return 0


def _scm_recv(k: SocketKernel, cpu: Cpu, sk: UnixSock, msg: Message, cred: PeerCred | None, scm: Scm) -> None:
    # scm_recv_unix()
    if not msg.room[0]:
        if sk.passcred or scm.files:
            msg.msg_flags |= MSG_CTRUNC
    elif sk.passcred:
        put_cmsg_to(k, cpu, msg, SOL_SOCKET, SCM_CREDENTIALS, (cred or PeerCred(0, OVERFLOW_ID, OVERFLOW_ID)).packed)
    if scm.files and msg.room[0]:
        msg.scm = scm
        k.functions.scm_detach_fds(cpu, msg.address, 0)
    for file in scm.files:
        _close(k, cpu, file)
    if scm.files:
        k.functions.free_uid(cpu, 0)


@kernel_function
def scm_detach_fds(k: SocketKernel, cpu: Cpu, msg: int, _scm: int) -> None:
    """Give the task descriptors of files, as many as there is room for: MSG_CTRUNC."""
    to, task = message_at(k, msg), task_of(k, cpu)
    scm: Scm = to.scm
    flags = O_CLOEXEC if to.msg_flags & MSG_CMSG_CLOEXEC else 0
    size = to.room[1]
    room = max(0, size - to.written - _CMSG_HEADER) // 4
    fds: list[int] = []
    for file in scm.files[:room]:
        if isinstance(file, File) and k.functions.security_file_receive(cpu, file.address):
            break
        fd = int_of(k.functions.alloc_fd(cpu, 0, NR_OPEN, flags))
        if fd < 0:
            break
        file.get()
        if isinstance(file, File):
            k.functions.fd_install(cpu, fd, file.address)
        else:
            task.files.unreserve(fd)
            task.files.install_at(fd, file)
        fds.append(fd)
    if fds:
        put_cmsg_to(k, cpu, to, SOL_SOCKET, SCM_RIGHTS, b"".join(fd.to_bytes(4, "little") for fd in fds))
    if len(fds) < len(scm.files):
        to.msg_flags |= MSG_CTRUNC


# ---- streams ---------------------------------------------------------------------------------------------------------


def _sigpipe(k: SocketKernel, cpu: Cpu, flags: int) -> None:
    if not flags & MSG_NOSIGNAL:
        k.functions.send_signal_locked(cpu, SIGPIPE, SEND_SIG_PRIV, task_of(k, cpu).address, PIDTYPE_PID)


@kernel_function
def unix_stream_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, length: int) -> int:
    """Send bytes: how many, or ENOTCONN, EISCONN, EOPNOTSUPP, EPIPE with SIGPIPE, EAGAIN, EFAULT."""
    socket, sent_msg, functions = k.sockfs.at(sock), message_at(k, msg), k.functions
    sk: UnixSock = socket.sk
    scm = _scm_send(k, cpu, sent_msg)
    if isinstance(scm, int):
        return scm
    functions.wait_for_unix_gc(cpu, 0)
    other = sk.peer
    if sent_msg.msg_flags & MSG_OOB:
        raise NotModelled("urgent data of AF_UNIX", "net/unix/af_unix.c: queue_oob")
    if sent_msg.msg_name and sent_msg.msg_namelen:
        err = -(Errno.EISCONN if sk.state == TCP_ESTABLISHED else Errno.EOPNOTSUPP)
    elif other is None:
        err = -Errno.ENOTCONN
    else:
        err = _stream(k, cpu, socket, sent_msg, s64(length), scm)
    for file in scm.files:
        _close(k, cpu, file)
    functions.put_pid(cpu, 0)
    return err


def _stream(k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, length: int, scm: Scm) -> int:
    functions, sk = k.functions, socket.sk
    patience = Patience(socket.sndtimeo_ns, nonblock=bool(msg.msg_flags & MSG_DONTWAIT))
    other = sk.peer
    if sk.sk_shutdown & SEND_SHUTDOWN:
        _sigpipe(k, cpu, msg.msg_flags)
        return -Errno.EPIPE
    sent = 0
    while sent < length:
        size = min(length - sent, (sk.sndbuf >> 1) - 64, SKB_MAX_HEAD + UNIX_SKB_FRAGS_SZ)
        err = _wait_for_room(k, cpu, socket, sk, patience)
        data = msg.take(size) if not err else b""
        if err == -Errno.EPIPE:
            break
        if err or data is None:
            return sent or err or -Errno.EFAULT
        _show_alloc(k, cpu, sk)
        skb = _skb(k, cpu, sk, data, size - min(size, _pages(size - SKB_MAX_HEAD)), scm, files=not sent)
        functions.unix_scm_to_skb(cpu, 0, 0, int(not sent))
        _show_put(k, cpu, skb)
        if other.is_dead or other.sk_shutdown & RCV_SHUTDOWN:
            free_skb(k, cpu, skb, purged=True)
            break
        functions.skb_queue_tail(cpu, 0, 0)
        other.push(skb)
        functions.sock_def_readable(cpu, other.struct_address)
        sent += size
    else:
        return sent
    if not sent:
        _sigpipe(k, cpu, msg.msg_flags)
    return sent or -Errno.EPIPE


def _pages(size: int) -> int:
    return max(0, size + 4095 & ~4095)


def _show_put(k: SocketKernel, cpu: Cpu, skb: UnixSkb) -> None:
    if k.net.functions.watched:
        touch(cpu, "skb_put", sk_buff=skb)
    k.functions.skb_copy_datagram_from_iter(cpu, 0, 0, 0, len(skb))


@kernel_function
def unix_stream_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive bytes: how many, 0 at the end, or EINVAL, EAGAIN, ECONNRESET, EFAULT."""
    to = message_at(k, msg)
    room = k.mem.alloc(16)
    k.walks[room] = (k.sockfs.at(sock), to, s64(size), flags)
    ret = int_of(k.functions.unix_stream_read_generic(cpu, room, 1))
    del k.walks[room]
    k.mem.free(room)
    return ret


@kernel_function
def unix_stream_read_generic(k: SocketKernel, cpu: Cpu, state: int, _freezable: int) -> int:
    """Read from a stream what was sent with the same credentials and with at most one lot of files."""
    socket, to, size, flags = k.walks[state]
    sk: UnixSock = socket.sk
    if sk.state != TCP_ESTABLISHED:
        return -Errno.EINVAL
    if flags & MSG_OOB:
        raise NotModelled("urgent data of AF_UNIX", "net/unix/af_unix.c: unix_stream_recv_urg")
    target = size if flags & MSG_WAITALL else min(socket.values.get((SOL_SOCKET, 18), 1), size) or 1
    reader = k.walks[state] = _Reader(k, cpu, sk, to, state, flags)
    patience = Patience(socket.rcvtimeo_ns, nonblock=bool(flags & MSG_DONTWAIT))
    err = 0
    while reader.copied < size or not size:
        if not reader.next():
            if reader.copied >= target:
                break
            err = -sk.take_error()
            if err or sk.sk_shutdown & RCV_SHUTDOWN:
                break
            if patience.left == 0:
                err = -Errno.EAGAIN
                break
            err = patience.wait(k, cpu, socket.wait)
            if err:
                break
            continue
        if not reader.take(size - reader.copied):
            break
        if not size:
            break
    _scm_recv(k, cpu, sk, to, reader.cred, reader.scm)
    if not reader.failed:
        k.functions.put_pid(cpu, 0)
    return reader.copied or (-Errno.EFAULT if reader.failed else err)


class _Reader:
    # what one read of a stream has taken
    def __init__(self, k: SocketKernel, cpu: Cpu, sk: UnixSock, to: Message, state: int, flags: int) -> None:
        self.k, self.cpu, self.sk, self.to, self.state = k, cpu, sk, to, state
        self.peek = bool(flags & MSG_PEEK)
        self.copied, self.failed = 0, False
        self.cred: PeerCred | None = None
        self.data = b""
        self.scm = Scm(PeerCred(0, 0, 0))
        self._began = False
        self._at = 0

    def next(self) -> bool:
        return self._at < len(self.sk.queue)

    def take(self, room: int) -> bool:
        """Take from the next packet; False when this read ends with it."""
        k, cpu, sk = self.k, self.cpu, self.sk
        skb = sk.queue[self._at]
        if self._began and sk.passcred and skb.cred != self.cred:
            return False
        if not self._began:
            self._began, self.cred = True, skb.cred
            if self.to.msg_name:
                copy_name(k, cpu, sk, self.to, skb.sender)
        chunk = min(len(skb), room)
        data = skb.data[skb.consumed : skb.consumed + chunk]
        self.data = data
        done = int_of(k.functions.unix_stream_read_actor(cpu, _seen(k, skb),
                                                         skb.consumed, chunk, self.state))  # fmt: skip
        if done < 0:
            self.failed = not self.copied
            return False
        self.copied += chunk
        had_files = bool(skb.files)
        if self.peek:
            self.scm.files += skb.files
            for file in skb.files:
                file.get()
            self._at += 1
            return not had_files
        self.scm.files += skb.files
        skb.files = []
        skb.consumed += chunk
        if len(skb):
            return False
        if k.net.functions.watched:
            k.functions.skb_unlink(cpu, 0, 0)
        sk.unlink(skb)
        free_skb(k, cpu, skb)
        return not had_files


@kernel_function
def unix_stream_read_actor(k: SocketKernel, cpu: Cpu, skb: int, _skip: int, chunk: int, state: int) -> int:
    """Copy a part of a packet to the task."""
    reader: _Reader = k.walks[state]
    copied_to_user(k, cpu, skb, chunk)
    return chunk if reader.to.put(reader.data) else -Errno.EFAULT


def _seen(k: SocketKernel, skb: UnixSkb) -> int:
    # where a packet lies, for those who look
    return skb.struct_address if k.net.functions.watched or k.net.tracepoints.watched else 0


def copy_name(k: SocketKernel, cpu: Cpu, sk: UnixSock, msg: Message, sender: UnixSock) -> None:
    """Tell the name of who sent a packet, which programs may change (``unix_copy_addr``)."""
    k.functions.unix_copy_addr(cpu, msg.address, sender.struct_address)
    if not sender.name:
        return
    name = k.net.cgroup_bpf.run_filter_unix(sk, AttachType.CGROUP_UNIX_RECVMSG, sender.name, cpu)
    name = sender.name if isinstance(name, int) else name
    k.mem.write(msg.msg_name, name)
    msg.msg_namelen = len(name)


# ---- datagrams -------------------------------------------------------------------------------------------------------


@kernel_function
def unix_seqpacket_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, length: int) -> int:
    """Send a packet to the other end: ENOTCONN without one."""
    sk: UnixSock = k.sockfs.at(sock).sk
    error = sk.take_error()
    if error:
        return -error
    if sk.state != TCP_ESTABLISHED:
        return -Errno.ENOTCONN
    message_at(k, msg).msg_namelen = 0
    return int_of(k.functions.unix_dgram_sendmsg(cpu, sock, msg, length))


@kernel_function
def unix_dgram_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, length: int) -> int:
    """Send a datagram: its length, or EMSGSIZE, ENOTCONN, ECONNREFUSED, EPERM, EAGAIN, and what names say."""
    socket, sent, functions, size = k.sockfs.at(sock), message_at(k, msg), k.functions, s64(length)
    sk: UnixSock = socket.sk
    scm = _scm_send(k, cpu, sent)
    if isinstance(scm, int):
        return scm
    functions.wait_for_unix_gc(cpu, 0)
    name: bytes | int | None = None
    if sent.msg_flags & MSG_OOB:
        name = -Errno.EOPNOTSUPP
    elif sent.msg_name and sent.msg_namelen:
        name = checked_name(k, sent.msg_name, s32(u32(sent.msg_namelen)))
        if not isinstance(name, int):
            name = k.net.cgroup_bpf.run_filter_unix(sk, AttachType.CGROUP_UNIX_SENDMSG, name, cpu)
    err = name if isinstance(name, int) else _datagram(k, cpu, socket, sent, size, name, scm)
    for file in scm.files:
        _close(k, cpu, file)
    functions.put_pid(cpu, 0)
    return err


def _datagram(
    k: SocketKernel, cpu: Cpu, socket: TaskSocket, msg: Message, size: int, name: bytes | None, scm: Scm
) -> int:
    functions, sk = k.functions, socket.sk
    if sk.passcred and not sk.name:
        functions.unix_autobind(cpu, sk.struct_address)
    if size > sk.sndbuf - 32:
        return -Errno.EMSGSIZE
    patience = Patience(socket.sndtimeo_ns, nonblock=bool(msg.msg_flags & MSG_DONTWAIT))
    err = _wait_for_room(k, cpu, socket, sk, patience)
    if err:
        return err
    data = msg.take(size)
    _show_alloc(k, cpu, sk)
    linear = size - min(size, _pages(size - SKB_MAX_ALLOC))
    skb = _skb(k, cpu, sk, data or b"", linear, scm, files=True)
    functions.unix_scm_to_skb(cpu, 0, 0, 1)
    err = -Errno.EFAULT if data is None else 0
    if not err:
        _show_put(k, cpu, skb)
        err = _deliver(k, cpu, socket, skb, name, patience)
    if err:
        free_skb(k, cpu, skb, purged=True)
    return size if err in (0, 1) else err


def _deliver(
    k: SocketKernel, cpu: Cpu, socket: TaskSocket, skb: UnixSkb, name: bytes | None, patience: Patience
) -> int:
    # 0, -errno, or 1 when the other end's filter does not want it
    functions, sk = k.functions, socket.sk
    while True:
        other = sk.peer
        if name is not None:
            room = k.mem.alloc(len(name) + 1)
            k.mem.write(room, name + b"\0")
            found = functions.unix_find_other(cpu, k.sched.namespaces.net, room, len(name), sk.type, 0)
            k.mem.free(room)
            if is_err(found):
                return is_err(found)
            other = unix_at(k, found)
        if other is None:
            return -Errno.ENOTCONN
        if k.net.functions.watched:
            err = k.net.functions.sk_filter_trim_cap(cpu, other, _ForFilter(skb), 1, _Reason())
            if err:
                return 1
        if other.filter is not None and not _wanted(k, cpu, other, skb):
            return 1
        if other.peer is not None and other.peer is not sk:
            return -Errno.EPERM
        if other.is_dead:
            return _dead(k, cpu, sk, other, named=name is not None)
        if other.sk_shutdown & RCV_SHUTDOWN:
            return -Errno.EPIPE
        if sk.type != SOCK_SEQPACKET:
            err = int_of(functions.security_unix_may_send(cpu, socket.address, k.sockfs.socket_of(other)))
            if err:
                return err
        if other is sk or other.peer is sk or not other.recvq_full:
            break
        if patience.left == 0:
            return -Errno.EAGAIN
        err = patience.wait(k, cpu, other.peer_wait, exclusive=True)
        if err:
            return err
    functions.skb_queue_tail(cpu, 0, 0)
    other.push(skb)
    functions.sock_def_readable(cpu, other.struct_address)
    return 0


def _wanted(k: SocketKernel, cpu: Cpu, other: UnixSock, skb: UnixSkb) -> bool:
    # sk_filter(): the other end's filter says how much is kept
    assert other.filter is not None
    kept = k.net.sk_filter.run_prog(
        other.filter, skb.struct_address, cpu, "socket_filter", other.filter_stats, "", verdict=""
    )
    skb.data = skb.data[: u32(kept)]
    return bool(kept)


class _Reason:
    struct_address = 0
    value = 0


class _ForFilter:
    # a packet as sk_filter_trim_cap() looks at it
    def __init__(self, skb: UnixSkb) -> None:
        self.dev, self._skb = skb.dev, skb

    @property
    def struct_address(self) -> int:
        return self._skb.struct_address


def _dead(k: SocketKernel, cpu: Cpu, sk: UnixSock, other: UnixSock, *, named: bool) -> int:
    if sk.type == SOCK_SEQPACKET:
        return -Errno.EPIPE
    if sk.peer is other:
        sk.forget_peer()
        sk.state = TCP_CLOSE
        purge(k, cpu, sk)
        put_sock(k, cpu, other)
        return -Errno.ECONNREFUSED
    return -Errno.ECONNREFUSED if named else -Errno.ECONNRESET


@kernel_function
def unix_seqpacket_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive a packet: ENOTCONN without another end."""
    if k.sockfs.at(sock).sk.state != TCP_ESTABLISHED:
        return -Errno.ENOTCONN
    return int_of(k.functions.__unix_dgram_recvmsg(cpu, k.sockfs.at(sock).struct.sk, msg, size, flags))


@kernel_function
def unix_dgram_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive a datagram."""
    return int_of(k.functions.__unix_dgram_recvmsg(cpu, k.sockfs.at(sock).struct.sk, msg, size, flags))


@kernel_function
def __unix_dgram_recvmsg(k: SocketKernel, cpu: Cpu, sk: int, msg: int, size: int, flags: int) -> int:
    """Receive a datagram: bytes, or EAGAIN, EOPNOTSUPP, EFAULT."""
    socket, to, functions, wanted = k.sockfs.at(sk), message_at(k, msg), k.functions, s64(size)
    sock: UnixSock = socket.sk
    if flags & MSG_OOB:
        return -Errno.EOPNOTSUPP
    nonblock = bool(flags & MSG_DONTWAIT)
    err = receive_wait(k, cpu, socket, "__skb_try_recv_datagram", nonblock=nonblock)
    if err:
        if err == -Errno.EAGAIN and sock.type == SOCK_SEQPACKET and sock.sk_shutdown & RCV_SHUTDOWN:
            return 0
        return 0 if err == -Errno.ESHUTDOWN else err
    skb = sock.queue[0]
    wake_head(k, cpu, sock.peer_wait, 4)
    if to.msg_name:
        copy_name(k, cpu, sock, to, skb.sender)
    copied = skb.data[:wanted]
    if len(copied) < len(skb.data):
        to.msg_flags |= MSG_TRUNC
    copied_to_user(k, cpu, _seen(k, skb), len(copied))
    if not to.put(copied):
        err = -Errno.EFAULT
    scm = Scm(PeerCred(0, 0, 0))
    peek = bool(flags & MSG_PEEK)
    if not err:
        recv_timestamp(k, cpu, socket, to, skb.time_ns)
        scm.files = list(skb.files)
        for file in scm.files if peek else ():
            file.get()
        _scm_recv(k, cpu, sock, to, skb.cred, scm)
        if not peek:
            skb.files = []
    functions.pid_vnr(cpu, 0)
    functions.put_pid(cpu, 0)
    if not peek:
        sock.unlink(skb)
        functions.skb_free_datagram(cpu, sk, 0)
        free_skb(k, cpu, skb)
    return err or (len(skb.data) if flags & MSG_TRUNC else len(copied))
