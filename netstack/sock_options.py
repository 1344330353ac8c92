"""setsockopt(2) and getsockopt(2) (net/socket.c, net/core/sock.c, net/ipv4/ip_sockglue.c, v6.18): the way to an option.

What TCP has is in ``netstack.sockopt``. Values are kept by socket, level and number; some have consequences.

Left out: every option that is in no table, which is NotModelled.
"""

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory.user import UserFault
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import ProgType
from netstack.cgroup_sockopt import run_filter_getsockopt, run_filter_setsockopt
from netstack.ip_tos import rt_tos2priority
from netstack.socket_api import int_of, op_of, socket_of
from netstack.sockfs import SocketKernel, TaskSocket
from netstack.sockopt import get_tcp_option, set_tcp_option
from tracing.fs import task_of
from tracing.functions import kernel_function
from tracing.syscalls import syscall
from tracing.task import Task

__all__ = [
    "FAMILY_OPTIONS", "GETTERS", "INT_OPTIONS", "SETTERS", "Rule", "int_option", "set_option", "tell_option",
    "value_of",
]  # fmt: skip

SOL_SOCKET, SOL_IP, SOL_TCP, SOL_UDP, SOL_IPV6, SOL_RAW, SOL_PACKET = 1, 0, 6, 17, 41, 255, 263
# include/uapi/asm-generic/socket.h
SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF, SO_KEEPALIVE = range(2, 10)
SO_OOBINLINE, SO_NO_CHECK, SO_PRIORITY, SO_LINGER, SO_REUSEPORT = 10, 11, 12, 13, 15
SO_RCVLOWAT, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO, SO_BINDTODEVICE = 18, 19, 20, 21, 25
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_TIMESTAMP, SO_ACCEPTCONN, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 26, 27, 29, 30, 32, 33
SO_TIMESTAMPNS, SO_MARK, SO_PROTOCOL, SO_DOMAIN, SO_RXQ_OVFL, SO_PEEK_OFF, SO_LOCK_FILTER = 35, 36, 38, 39, 40, 42, 44
SO_BUSY_POLL, SO_INCOMING_CPU, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF, SO_COOKIE = 46, 49, 50, 52, 57
SO_DETACH_REUSEPORT_BPF = 68
IP_TOS, IP_TTL, IP_HDRINCL, IP_RECVOPTS, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS, IP_MTU = (
    *(1, 2, 3, 6, 8, 10, 11, 12, 13, 14),
)
IP_FREEBIND, IP_TRANSPARENT, IP_RECVORIGDSTADDR, IP_BIND_ADDRESS_NO_PORT, IP_MULTICAST_TTL, IP_MULTICAST_LOOP = (
    *(15, 19, 20, 24, 33, 34),
)
IPV6_MULTICAST_HOPS, IPV6_TCLASS = 18, 67
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF, MEM_DEFAULT = 4608, 2304, 212992
_TIMEVAL, _INT, _LINGER, _U64 = Struct("<qq"), Struct("<i"), Struct("<ii"), Struct("<Q")
IPPROTO_RAW = 255
AF_INET, AF_INET6 = 2, 10
# protocols whose sockets take SOL_SOCKET themselves (SOCK_CUSTOM_SOCKOPT); struct proto.setsockopt and getsockopt
CUSTOM = ("UDP", "UDPv6")
SETTERS = {"UDP": "udp_setsockopt", "TCP": "tcp_setsockopt"}
GETTERS = {"UDP": "udp_getsockopt", "TCP": "tcp_getsockopt"}
# options that a family has of its own: (level, number) -> set, get
Setter = Callable[[SocketKernel, Cpu, TaskSocket, bytes], int]
Getter = Callable[[SocketKernel, Cpu, TaskSocket], bytes | int]
FAMILY_OPTIONS: dict[tuple[int, int], tuple[Setter | None, Getter | None]] = {}


class Rule(NamedTuple):
    """A number that a socket keeps: what it is at first, its bounds, whether it is yes or no."""

    default: int = 0
    least: int = -(1 << 31)
    most: int = (1 << 31) - 1
    is_bool: bool = False
    # the attribute of the socket that has it
    attribute: str = ""
    # option of receiving: in TaskSocket.options
    receiving: bool = False
    # whether nothing stands for 0 (do_ip_setsockopt)
    may_be_empty: bool = False


_YES_NO = Rule(is_bool=True)
_TELL = Rule(is_bool=True, receiving=True, may_be_empty=True)
INT_OPTIONS: dict[tuple[int, int], Rule] = {
    (SOL_SOCKET, SO_REUSEADDR): Rule(is_bool=True, attribute="reuse"),
    (SOL_SOCKET, SO_REUSEPORT): Rule(is_bool=True, attribute="reuseport"),
    (SOL_SOCKET, SO_BROADCAST): Rule(is_bool=True, attribute="broadcast"),
    (SOL_SOCKET, SO_DONTROUTE): _YES_NO, (SOL_SOCKET, SO_KEEPALIVE): _YES_NO, (SOL_SOCKET, SO_OOBINLINE): _YES_NO,
    (SOL_SOCKET, SO_NO_CHECK): _YES_NO, (SOL_SOCKET, SO_LOCK_FILTER): _YES_NO,
    (SOL_SOCKET, SO_PRIORITY): Rule(attribute="priority"), (SOL_SOCKET, SO_MARK): Rule(attribute="mark"),
    (SOL_SOCKET, SO_RCVLOWAT): Rule(1), (SOL_SOCKET, SO_BUSY_POLL): Rule(0, 0), (SOL_SOCKET, SO_INCOMING_CPU): Rule(-1),
    (SOL_SOCKET, SO_TIMESTAMP): _TELL, (SOL_SOCKET, SO_TIMESTAMPNS): _TELL, (SOL_SOCKET, SO_RXQ_OVFL): _TELL,
    (SOL_IP, IP_TOS): Rule(0, attribute="tos", may_be_empty=True), (SOL_IP, IP_TTL): Rule(-1, -1, 255, attribute="ttl"),
    (SOL_IP, IP_PKTINFO): _TELL, (SOL_IP, IP_RECVTTL): _TELL, (SOL_IP, IP_RECVTOS): _TELL,
    (SOL_IP, IP_RECVORIGDSTADDR): _TELL, (SOL_IP, IP_FREEBIND): _YES_NO,
    (SOL_IP, IP_MTU_DISCOVER): Rule(1, 0, 5, may_be_empty=True, attribute="pmtudisc"),
    (SOL_IP, IP_TRANSPARENT): _YES_NO, (SOL_IP, IP_BIND_ADDRESS_NO_PORT): Rule(is_bool=True, may_be_empty=True),
    (SOL_IP, IP_MULTICAST_TTL): Rule(1, -1, 255), (SOL_IP, IP_MULTICAST_LOOP): Rule(1, is_bool=True),
}  # fmt: skip


def int_option(value: bytes) -> int:
    """Return the number that a task gives."""
    number: int = _INT.unpack_from(value)[0]
    return number


def value_of(socket: TaskSocket, level: int, optname: int) -> int:
    """Return a number that a socket keeps."""
    return socket.values.get((level, optname), INT_OPTIONS[level, optname].default)


# ---- setting ---------------------------------------------------------------------------------------------------------


@syscall(54)
def sys_setsockopt(k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, optval: int, optlen: int) -> int:
    return int_of(k.functions.__sys_setsockopt(cpu, u32(fd), u32(level), u32(optname), optval, u32(optlen)))


@kernel_function
def __sys_setsockopt(
    k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, user_optval: int, optlen: int
) -> int:
    """Set an option: EINVAL, EFAULT, ENOPROTOOPT, EDOM."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    return int_of(k.functions.do_sock_setsockopt(cpu, socket.address, 0, level, optname, user_optval, 0, optlen))


@kernel_function
def do_sock_setsockopt(
    k: SocketKernel, cpu: Cpu, sock: int, _compat: int, level: int, optname: int, optval: int, is_kernel: int,
    optlen: int,
) -> int:  # fmt: skip
    """Ask the security modules, then set an option of a socket or of its protocol."""
    socket, functions = k.sockfs.at(sock), k.functions
    if int_of(optlen) < 0:
        return -Errno.EINVAL
    err = int_of(functions.security_socket_setsockopt(cpu, sock, level, optname))
    if err:
        return err
    asked = (s32(u32(level)), s32(u32(optname)), optval, int_of(optlen))
    done = run_filter_setsockopt(k.net.cgroup_bpf, cpu, task_of(k, cpu), socket.sk, *asked)
    if done.err:
        return min(done.err, 0)
    level, optname, optlen = u32(done.level), u32(done.optname), done.optlen
    if done.value is None:
        return _set_sockopt(k, cpu, socket, (level, optname, optval, is_kernel, optlen))
    copy = k.mem.alloc(len(done.value))
    try:
        k.mem.write(copy, done.value)
        return _set_sockopt(k, cpu, socket, (level, optname, copy, 1, optlen))
    finally:
        k.mem.free(copy)


def _set_sockopt(k: SocketKernel, cpu: Cpu, socket: TaskSocket, args: tuple[int, int, int, int, int]) -> int:
    level, functions = args[0], k.functions
    if level == SOL_SOCKET and socket.prot not in CUSTOM:
        return int_of(functions.sk_setsockopt(cpu, socket.struct.sk, *args))
    if "setsockopt" not in socket.ops:
        return -Errno.EOPNOTSUPP
    return int_of(op_of(k, socket, "setsockopt")(cpu, socket.address, *args))


@kernel_function
def sock_common_setsockopt(
    k: SocketKernel, cpu: Cpu, sock: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Let the protocol set an option."""
    socket = k.sockfs.at(sock)
    setter = getattr(k.functions, SETTERS[socket.prot])
    return int_of(setter(cpu, socket.struct.sk, level, optname, optval, is_kernel, optlen))


@kernel_function
def udp_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of a UDP socket."""
    args = (cpu, sk, level, optname, optval, is_kernel, optlen)
    if level in (SOL_UDP, SOL_SOCKET):
        return int_of(k.functions.udp_lib_setsockopt(*args, 0))
    return int_of(k.functions.ip_setsockopt(*args))


@kernel_function
def udp_lib_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int, _push: int
) -> int:
    """Set an option of a UDP socket, or one that all sockets have."""
    if level == SOL_SOCKET:
        err = int_of(k.functions.sk_setsockopt(cpu, sk, level, optname, optval, is_kernel, optlen))
        if optname == SO_RCVBUF:
            # the threshold at which memory that was read is given back
            k.functions.sockopt_lock_sock(cpu, sk)
            k.functions.sockopt_release_sock(cpu, sk)
        return err
    raise NotModelled(f"option {optname} of UDP", "include/uapi/linux/udp.h")


@kernel_function
def tcp_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of a TCP socket."""
    functions, family = k.functions, k.sockfs.at(sk).family
    others = functions.ip_setsockopt if family == AF_INET else functions.ipv6_setsockopt
    setter = functions.do_tcp_setsockopt if level == SOL_TCP else others
    return int_of(setter(cpu, sk, level, optname, optval, is_kernel, optlen))


@kernel_function
def do_tcp_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of TCP."""
    return _locked(k, cpu, sk, level, optname, optval, is_kernel, optlen)


@kernel_function
def ip_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of IP: ENOPROTOOPT for other levels."""
    if level != SOL_IP:
        return -Errno.ENOPROTOOPT
    return int_of(k.functions.do_ip_setsockopt(cpu, sk, level, optname, optval, is_kernel, optlen))


@kernel_function
def do_ip_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option of IP."""
    if s32(u32(optname)) != IP_TOS:
        # most need no lock
        return set_option(k, cpu, sk, level, optname, optval, optlen)
    return _locked(k, cpu, sk, level, optname, optval, is_kernel, optlen)


def _locked(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    k.functions.sockopt_lock_sock(cpu, sk)
    err = set_option(k, cpu, sk, level, optname, optval, optlen, is_kernel=bool(is_kernel))
    if (level, optname) == (SOL_IP, IP_TOS) and not err:
        k.functions.__ip_sock_set_tos(cpu, sk, 0)
        socket = k.sockfs.at(sk)
        if not socket.is_stream:
            priority = rt_tos2priority(value_of(socket, SOL_IP, IP_TOS))
            socket.sk.priority = socket.values[SOL_SOCKET, SO_PRIORITY] = priority
    k.functions.sockopt_release_sock(cpu, sk)
    return err


@kernel_function
def sk_setsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, is_kernel: int, optlen: int
) -> int:
    """Set an option that all sockets have: EINVAL, EFAULT, EDOM, EPERM, ENOPROTOOPT."""
    err = set_option(k, cpu, sk, level, optname, optval, optlen, is_kernel=bool(is_kernel))
    socket = k.sockfs.at(sk)
    if not socket.is_stream and socket.prot in SETTERS:
        k.functions.release_sock(cpu, socket.sk)
    return err


def set_option(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int, *, is_kernel: bool = False
) -> int:
    """Set an option of a socket, by the tables: 0 or -errno."""
    socket, user = k.sockfs.at(sk), task_of(k, cpu).user
    level, optname = s32(u32(level)), s32(u32(optname))
    try:
        memory = k.mem if is_kernel else user
        value = memory.read(optval, int_of(optlen)) if optlen and memory is not None else b""
    except UserFault:
        return -Errno.EFAULT
    own = FAMILY_OPTIONS.get((level, optname)) if (level, optname) in socket.own_options else None
    own = own or _COMMON.get((level, optname))
    if level == SOL_SOCKET and len(value) < _INT.size and optname not in (SO_BINDTODEVICE, SO_DETACH_REUSEPORT_BPF):
        return -Errno.EINVAL
    if own is not None:
        return own[0](k, cpu, socket, value) if own[0] is not None else -Errno.ENOPROTOOPT
    if socket.is_stream and level != SOL_IPV6:
        return set_tcp_option(cpu, socket.tcp, level, optname, value)
    return _set_int(k, cpu, socket, level, optname, value)


def _set_int(k: SocketKernel, cpu: Cpu, socket: TaskSocket, level: int, optname: int, value: bytes) -> int:
    rule = INT_OPTIONS.get((level, optname))
    if rule is None:
        raise NotModelled(f"option {optname} of level {level} of {socket.prot} sockets", "setsockopt(2)")
    if len(value) < _INT.size and not (level == SOL_IP and (value or rule.may_be_empty)):
        return -Errno.EINVAL
    number = int_option(value) if len(value) >= _INT.size else value[0] if value else 0
    number = _ADJUSTED.get((level, optname), int)(int(bool(number)) if rule.is_bool else number)
    if (level, optname) == (SOL_SOCKET, SO_LOCK_FILTER) and value_of(socket, level, optname) > number:
        return -Errno.EPERM
    if not rule.least <= number <= rule.most or ((level, optname) == (SOL_IP, IP_TTL) and not number):
        return -Errno.EINVAL
    if (level, optname) == (SOL_SOCKET, SO_REUSEPORT) and socket.family not in (AF_INET, AF_INET6):
        return -Errno.EOPNOTSUPP if number else 0
    if (level, optname) in _PRIVILEGED and not _PRIVILEGED[level, optname](number):
        cred = task_of(k, cpu).cred
        if all(
            k.functions.security_capable(cpu, cred.address, cred.user_ns, cap, 0)
            for cap in (CAP_NET_RAW, CAP_NET_ADMIN)
        ):
            return -Errno.EPERM
    socket.values[level, optname] = number
    if rule.receiving:
        (socket.options.add if number else socket.options.discard)((level, optname))
    if rule.attribute and hasattr(socket.sk, rule.attribute):
        setattr(socket.sk, rule.attribute, max(number, 0))
    return 0


# what is made of a number; what needs no capability
_ADJUSTED: dict[tuple[int, int], Callable[[int], int]] = {
    (SOL_SOCKET, SO_RCVLOWAT): lambda value: value or 1, (SOL_IP, IP_TOS): lambda value: value & 0xFF,
    (SOL_IP, IP_MULTICAST_TTL): lambda value: 1 if value == -1 else value,
    (SOL_IPV6, IPV6_MULTICAST_HOPS): lambda value: 1 if value == -1 else value,
    (SOL_IPV6, IPV6_TCLASS): lambda value: max(value, 0),
}  # fmt: skip
_PRIVILEGED: dict[tuple[int, int], Callable[[int], bool]] = {
    (SOL_SOCKET, SO_PRIORITY): lambda value: 0 <= value <= 6, (SOL_SOCKET, SO_MARK): lambda _value: False,
    (SOL_IP, IP_TRANSPARENT): lambda value: not value,
}  # fmt: skip


# ---- getting ---------------------------------------------------------------------------------------------------------


@syscall(55)
def sys_getsockopt(k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, optval: int, optlen: int) -> int:
    return int_of(k.functions.__sys_getsockopt(cpu, u32(fd), u32(level), u32(optname), optval, optlen))


@kernel_function
def __sys_getsockopt(k: SocketKernel, cpu: Cpu, fd: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option's value: EINVAL, EFAULT, ENOPROTOOPT."""
    err, socket = socket_of(k, cpu, fd)
    if socket is None:
        return err
    return int_of(k.functions.do_sock_getsockopt(cpu, socket.address, 0, level, optname, optval, 0, optlen, 0))


@kernel_function
def do_sock_getsockopt(
    k: SocketKernel, cpu: Cpu, sock: int, _compat: int, level: int, optname: int, optval: int, is_kernel: int,
    optlen: int, len_is_kernel: int,
) -> int:  # fmt: skip
    """Ask the security modules, then tell an option's value."""
    socket, functions = k.sockfs.at(sock), k.functions
    err = int_of(functions.security_socket_getsockopt(cpu, sock, level, optname))
    if err:
        return err
    task = task_of(k, cpu)
    room = _room(task, optlen)
    if level == SOL_SOCKET:
        args = (level, optname, optval, is_kernel, optlen, len_is_kernel)
        err = int_of(functions.sk_getsockopt(cpu, socket.struct.sk, *args))
    elif "getsockopt" in socket.ops:
        err = int_of(op_of(k, socket, "getsockopt")(cpu, sock, level, optname, optval, optlen))
    else:
        err = -Errno.EOPNOTSUPP
    asked = (s32(u32(level)), s32(u32(optname)), optval, optlen, room, err)
    return run_filter_getsockopt(k.net.cgroup_bpf, cpu, task, socket.sk, *asked)


def _room(task: Task, optlen: int) -> int:
    # what getsockopt() may write at most; where that cannot be read the option itself fails
    try:
        return s32(int.from_bytes(task.user.read(optlen, 4), "little")) if task.user is not None else 0
    except UserFault:
        return 0


@kernel_function
def sock_common_getsockopt(
    k: SocketKernel, cpu: Cpu, sock: int, level: int, optname: int, optval: int, optlen: int
) -> int:
    """Let the protocol tell an option's value."""
    socket = k.sockfs.at(sock)
    getter = getattr(k.functions, GETTERS[socket.prot])
    return int_of(getter(cpu, socket.struct.sk, level, optname, optval, optlen))


@kernel_function
def udp_getsockopt(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of a UDP socket."""
    if level == SOL_UDP:
        raise NotModelled(f"option {optname} of UDP", "include/uapi/linux/udp.h")
    return int_of(k.functions.ip_getsockopt(cpu, sk, level, optname, optval, optlen))


@kernel_function
def tcp_getsockopt(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of a TCP socket."""
    if level != SOL_TCP:
        functions, family = k.functions, k.sockfs.at(sk).family
        getter = functions.ip_getsockopt if family == AF_INET else functions.ipv6_getsockopt
        return int_of(getter(cpu, sk, level, optname, optval, optlen))
    return int_of(k.functions.do_tcp_getsockopt(cpu, sk, level, optname, optval, 0, optlen, 0))


@kernel_function
def do_tcp_getsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, _kernel: int, optlen: int, _len: int
) -> int:
    """Tell an option of TCP."""
    if optname == TCP_INFO:
        k.functions.tcp_get_info(cpu, sk, 0)
    return tell_option(k, cpu, sk, level, optname, optval, optlen)


TCP_INFO = 11


@kernel_function
def ip_getsockopt(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of IP: EOPNOTSUPP for other levels."""
    if level != SOL_IP:
        return -Errno.EOPNOTSUPP
    return int_of(k.functions.do_ip_getsockopt(cpu, sk, level, optname, optval, 0, optlen, 0))


@kernel_function
def do_ip_getsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, _kernel: int, optlen: int, _len: int
) -> int:
    """Tell an option of IP."""
    return tell_option(k, cpu, sk, level, optname, optval, optlen)


@kernel_function
def sk_getsockopt(
    k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, _kernel: int, optlen: int, _len: int
) -> int:
    """Tell an option that all sockets have."""
    return tell_option(k, cpu, sk, level, optname, optval, optlen)


def tell_option(k: SocketKernel, cpu: Cpu, sk: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Give an option's value to the task, by the tables: 0 or -errno."""
    socket, user = k.sockfs.at(sk), task_of(k, cpu).user
    assert user is not None
    level, optname = s32(u32(level)), s32(u32(optname))
    try:
        room = s32(int.from_bytes(user.read(optlen, 4), "little"))
        if room < 0:
            return -Errno.EINVAL
        found = _get(k, cpu, socket, level, optname)
        if isinstance(found, int):
            return found
        if level == SOL_IP and 0 < room < _INT.size and 0 <= int_option(found) <= 0xFF:
            found = found[:1]
        if len(found) > room and (level, optname) == (SOL_SOCKET, SO_COOKIE):
            return -Errno.EINVAL
        user.write(optval, found[:room])
        user.write(optlen, min(room, len(found)).to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


def _get(k: SocketKernel, cpu: Cpu, socket: TaskSocket, level: int, optname: int) -> bytes | int:
    own = FAMILY_OPTIONS.get((level, optname)) if (level, optname) in socket.own_options else None
    own = own or _COMMON.get((level, optname))
    if own is not None and own[1] is not None:
        return own[1](k, cpu, socket)
    if socket.is_stream and level != SOL_IPV6:
        return get_tcp_option(socket.tcp, level, optname, cpu)
    if (level, optname) == (SOL_IP, IP_TTL):
        return _INT.pack(socket.sk.ttl or k.net.sysctls["net.ipv4.ip_default_ttl"])
    if (level, optname) not in INT_OPTIONS:
        raise NotModelled(f"option {optname} of level {level} of {socket.prot} sockets", "getsockopt(2)")
    return _INT.pack(value_of(socket, level, optname))


# ---- options that all sockets have -----------------------------------------------------------------------------------


def _set_timeout(name: str) -> Setter:
    # sock_set_timeout(): 0 waits for ever, less than that not at all
    def set_timeout(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
        if len(value) < _TIMEVAL.size:
            return -Errno.EINVAL
        seconds, microseconds = _TIMEVAL.unpack_from(value)
        if not 0 <= microseconds < 10**6:
            return -Errno.EDOM
        is_set = seconds or microseconds
        setattr(socket, name, max(0, seconds * 10**9 + microseconds * 1000) if is_set else None)
        return 0

    return set_timeout


def _get_timeout(name: str) -> Getter:
    def get_timeout(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket) -> bytes:
        seconds, rest = divmod(getattr(socket, name) or 0, 10**9)
        return _TIMEVAL.pack(seconds, rest // 1000)

    return get_timeout


def _buffer(sysctl: str, least: int, attribute: str) -> tuple[Setter, Getter]:
    def set_buffer(k: SocketKernel, cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
        if socket.is_stream:
            return set_tcp_option(cpu, socket.tcp, SOL_SOCKET, SO_SNDBUF if "snd" in attribute else SO_RCVBUF, value)
        if len(value) < _INT.size:
            return -Errno.EINVAL
        setattr(socket.sk, attribute, max(2 * min(u32(int_option(value)), k.net.sysctls[sysctl]), least))
        return 0

    def get_buffer(_k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> bytes | int:
        if socket.is_stream:
            return get_tcp_option(socket.tcp, SOL_SOCKET, SO_SNDBUF if "snd" in attribute else SO_RCVBUF, cpu)
        return _INT.pack(getattr(socket.sk, attribute))

    return set_buffer, get_buffer


def _get_error(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket) -> bytes:
    return _INT.pack(socket.take_error())


def _set_linger(_k: SocketKernel, cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    if socket.is_stream:
        return set_tcp_option(cpu, socket.tcp, SOL_SOCKET, SO_LINGER, value)
    if len(value) < _LINGER.size:
        return -Errno.EINVAL
    socket.values[SOL_SOCKET, SO_LINGER] = int.from_bytes(value[:8], "little")
    return 0


def _get_linger(_k: SocketKernel, cpu: Cpu, socket: TaskSocket) -> bytes | int:
    if socket.is_stream:
        return get_tcp_option(socket.tcp, SOL_SOCKET, SO_LINGER, cpu)
    return _U64.pack(socket.values.get((SOL_SOCKET, SO_LINGER), 0))


def _attach_bpf(k: SocketKernel, cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    if len(value) != _INT.size:
        return -Errno.EINVAL
    return int_of(k.functions.sk_attach_bpf(cpu, u32(int_option(value)), socket.struct.sk))


@kernel_function
def sk_attach_bpf(k: SocketKernel, cpu: Cpu, ufd: int, sk: int) -> int:
    """Set a socket's filter: EBADF, EINVAL."""
    functions = k.functions
    functions.bpf_prog_get_type_dev(cpu, ufd, ProgType.SOCKET_FILTER, 0)
    prog = task_of(k, cpu).files.lookup(u32(ufd))
    if not isinstance(prog, Prog):
        return -(Errno.EBADF if prog is None else Errno.EINVAL)
    try:
        k.sockfs.at(sk).sk.attach_bpf(prog)
    except KernelError as error:
        return -error.errno
    return int_of(functions.__sk_attach_prog(cpu, 0, sk))


def _detach_filter(k: SocketKernel, cpu: Cpu, socket: TaskSocket, _value: bytes) -> int:
    return int_of(k.functions.sk_detach_filter(cpu, socket.struct.sk))


@kernel_function
def sk_detach_filter(k: SocketKernel, _cpu: Cpu, sk: int) -> int:
    """Take a socket's filter off: ENOENT, EPERM when it is locked."""
    socket = k.sockfs.at(sk)
    if value_of(socket, SOL_SOCKET, SO_LOCK_FILTER):
        return -Errno.EPERM
    try:
        socket.sk.detach_filter()
    except KernelError as error:
        return -error.errno
    return 0


def _attach_reuseport(k: SocketKernel, cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    prog = task_of(k, cpu).files.lookup(u32(int_option(value))) if len(value) == _INT.size else None
    if not isinstance(prog, Prog):
        return -(Errno.EBADF if prog is None and len(value) == _INT.size else Errno.EINVAL)
    try:
        socket.sk.attach_reuseport_bpf(prog)
    except KernelError as error:
        return -error.errno
    return 0


def _detach_reuseport(_k: SocketKernel, _cpu: Cpu, socket: TaskSocket, _value: bytes) -> int:
    try:
        socket.sk.detach_reuseport_bpf()
    except KernelError as error:
        return -error.errno
    return 0


def _set_device(k: SocketKernel, _cpu: Cpu, socket: TaskSocket, value: bytes) -> int:
    # sock_bindtoindex(): ENODEV
    name = value.partition(b"\0")[0][:15].decode(errors="replace")
    if name and name not in k.net.devices:
        return -Errno.ENODEV
    if name and not hasattr(socket.sk, "bound_dev_if"):
        raise NotModelled(f"SO_BINDTODEVICE of {socket.prot} sockets", "net/core/sock.c")
    if hasattr(socket.sk, "bound_dev_if"):
        socket.sk.bound_dev_if = k.net.devices[name].ifindex if name else 0
    return 0


def _get_device(k: SocketKernel, _cpu: Cpu, socket: TaskSocket) -> bytes:
    index = getattr(socket.sk, "bound_dev_if", 0)
    names = [name for name, dev in k.net.devices.items() if dev.ifindex == index]
    return names[0].encode() + b"\0" if index and names else b""


def _telling(tell: Callable[[TaskSocket], int]) -> tuple[Setter, Getter]:
    def refuse(_k: SocketKernel, _cpu: Cpu, _socket: TaskSocket, _value: bytes) -> int:
        return -Errno.ENOPROTOOPT

    return refuse, lambda _k, _cpu, socket: _INT.pack(tell(socket))


def _classic(_k: SocketKernel, _cpu: Cpu, _socket: TaskSocket, _value: bytes) -> int:
    raise NotModelled("classic filters of sockets", "net/core/filter.c")


_COMMON: dict[tuple[int, int], tuple[Setter | None, Getter | None]] = {
    (SOL_SOCKET, SO_RCVTIMEO): (_set_timeout("rcvtimeo_ns"), _get_timeout("rcvtimeo_ns")),
    (SOL_SOCKET, SO_SNDTIMEO): (_set_timeout("sndtimeo_ns"), _get_timeout("sndtimeo_ns")),
    (SOL_SOCKET, SO_SNDBUF): _buffer("net.core.wmem_max", SOCK_MIN_SNDBUF, "sndbuf"),
    (SOL_SOCKET, SO_RCVBUF): _buffer("net.core.rmem_max", SOCK_MIN_RCVBUF, "rcvbuf"),
    (SOL_SOCKET, SO_TYPE): _telling(lambda socket: int(socket.struct.type)),
    (SOL_SOCKET, SO_PROTOCOL): _telling(lambda socket: socket.protocol),
    (SOL_SOCKET, SO_DOMAIN): _telling(lambda socket: socket.family),
    (SOL_SOCKET, SO_ACCEPTCONN): _telling(lambda socket: int(getattr(socket.sk, "is_listening", False))),
    (SOL_SOCKET, SO_SNDLOWAT): _telling(lambda _socket: 1),
    (SOL_SOCKET, SO_ERROR): (None, _get_error), (SOL_SOCKET, SO_LINGER): (_set_linger, _get_linger),
    (SOL_SOCKET, SO_COOKIE): (None, lambda _k, _cpu, socket: _U64.pack(socket.cookie)),
    (SOL_SOCKET, SO_BINDTODEVICE): (_set_device, _get_device),
    (SOL_SOCKET, SO_ATTACH_BPF): (_attach_bpf, None), (SOL_SOCKET, SO_DETACH_FILTER): (_detach_filter, None),
    (SOL_SOCKET, SO_ATTACH_FILTER): (_classic, None),
    (SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF): (_attach_reuseport, None),
    (SOL_SOCKET, SO_DETACH_REUSEPORT_BPF): (_detach_reuseport, None),
}  # fmt: skip
