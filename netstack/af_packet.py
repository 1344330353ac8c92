"""What tasks do with packet sockets (net/packet/af_packet.c, v6.18).

Left out: SOCK_PACKET, rings, membership beyond counting it, virtio headers, timestamps of devices.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault
from ebpfsim.progs.prog import Prog
from netstack.ip_cmsg import recv_timestamp
from netstack.marks import touch
from netstack.msg import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, MSG_TRUNC, copied_to_user, message_at, put_cmsg_to
from netstack.packet_sock import AF_PACKET, SOCK_DGRAM, SOCK_RAW, Fanout, FanoutKind, PacketSock
from netstack.sk_alloc import SOCK_MAKERS
from netstack.skb import CHECKSUM_PARTIAL, SkBuff
from netstack.sock_options import int_option
from netstack.sock_wait import receive_wait
from netstack.socket_api import FAMILIES, int_of
from netstack.sockfs import GFP_KERNEL, PROTO_OPS, SocketKernel
from tracing.fs import task_of
from tracing.functions import kernel_function

__all__: list[str] = []

CAP_NET_RAW = 13
SOCK_PACKET = 10
# struct sockaddr_ll: family, protocol, ifindex, hatype, pkttype, halen, addr
_ADDRESS, ADDRESS_BYTES, LEAST_ADDRESS = Struct("<H2siHBB8s"), 20, 20
ARPHRD_ETHER, ARPHRD_LOOPBACK, ETH_ALEN, ETH_HLEN = 1, 772, 6, 14
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_DROP_MEMBERSHIP, PACKET_RX_RING, PACKET_STATISTICS, PACKET_AUXDATA = 1, 2, 5, 6, 8
PACKET_VERSION, PACKET_RESERVE, PACKET_LOSS, PACKET_FANOUT, PACKET_FANOUT_DATA, PACKET_IGNORE_OUTGOING = (
    *(10, 12, 14, 18, 22, 23),
)
TP_STATUS_USER, TP_STATUS_CSUMNOTREADY = 1, 8
_AUXDATA = Struct("<IIIHHHH")  # struct tpacket_auxdata
_INT, _STATS = Struct("<i"), Struct("<II")
PROTO_OPS["packet_ops"] = {
    "release": "packet_release", "bind": "packet_bind", "getname": "packet_getname", "poll": "packet_poll",
    "setsockopt": "packet_setsockopt", "getsockopt": "packet_getsockopt", "sendmsg": "packet_sendmsg",
    "recvmsg": "packet_recvmsg",
}  # fmt: skip
FAMILIES[AF_PACKET] = "packet_create"
SOCK_MAKERS["PACKET"] = PacketSock


@kernel_function
def packet_create(k: SocketKernel, cpu: Cpu, net: int, sock: int, protocol: int, kern: int) -> int:
    """Put a packet socket behind a ``struct socket``: EPERM, ESOCKTNOSUPPORT, ENOBUFS."""
    functions, socket = k.functions, k.sockfs.at(sock)
    if not functions.ns_capable(cpu, task_of(k, cpu).cred.user_ns, CAP_NET_RAW):
        return -Errno.EPERM
    if socket.struct.type == SOCK_PACKET:
        raise NotModelled("SOCK_PACKET", "net/packet/af_packet.c: packet_rcv_spkt")
    if socket.struct.type not in (SOCK_DGRAM, SOCK_RAW):
        return -Errno.ESOCKTNOSUPPORT
    k.sockfs.set_ops(socket, "packet_ops")
    sk = functions.sk_alloc(cpu, net, AF_PACKET, GFP_KERNEL, k.sockfs.proto("PACKET").address, kern)
    if not sk:
        return -Errno.ENOBUFS
    functions.sock_init_data(cpu, sock, sk)
    made: PacketSock = socket.sk
    made.type, made.protocol = socket.struct.type, _swap(protocol & 0xFFFF)
    socket.protocol = protocol
    made.show()
    k.net.taps.append(made)
    if made.protocol:
        _hook(k, cpu, made)
    return 0


def _swap(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def _hook(k: SocketKernel, cpu: Cpu, sk: PacketSock) -> None:
    # register_prot_hook()
    sk.is_running = True
    if sk.fanout is None:
        k.functions.dev_add_pack(cpu, sk.struct_address)
    elif sk not in sk.fanout.members:
        sk.fanout.members.append(sk)


def _unhook(k: SocketKernel, cpu: Cpu, sk: PacketSock) -> None:
    # unregister_prot_hook()
    if not sk.is_running:
        return
    sk.is_running = False
    if sk.fanout is None:
        k.functions.__dev_remove_pack(cpu, sk.struct_address)
    elif sk in sk.fanout.members:
        sk.fanout.members.remove(sk)


@kernel_function
def packet_bind(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, addr_len: int) -> int:
    """See one device, or another protocol: EINVAL, ENODEV, ENETDOWN later."""
    if s32(u32(addr_len)) < LEAST_ADDRESS:
        return -Errno.EINVAL
    family, protocol, ifindex, *_ = _ADDRESS.unpack(k.mem.read(uaddr, ADDRESS_BYTES))
    if family != AF_PACKET:
        return -Errno.EINVAL
    number = int.from_bytes(protocol, "little")
    return int_of(k.functions.packet_do_bind(cpu, k.sockfs.at(sock).struct.sk, 0, ifindex, number))


@kernel_function
def packet_do_bind(k: SocketKernel, cpu: Cpu, sk: int, _name: int, ifindex: int, proto: int) -> int:
    """See one device, or another protocol: EINVAL in a fanout, ENODEV."""
    sock: PacketSock = k.sockfs.at(sk).sk
    ifindex, protocol = s32(u32(ifindex)), _swap(proto & 0xFFFF)
    if sock.fanout is not None:
        return -Errno.EINVAL
    if ifindex:
        _look_up(k, cpu)
        if _device(k, ifindex) is None:
            return -Errno.ENODEV
    protocol = protocol or sock.protocol
    if (protocol, ifindex) != (sock.protocol, sock.ifindex) or not sock.is_running:
        _unhook(k, cpu, sock)
        sock.protocol, sock.ifindex = protocol, ifindex
        sock.show()
        if protocol:
            _hook(k, cpu, sock)
    return 0


def _look_up(k: SocketKernel, cpu: Cpu) -> None:
    if k.net.functions.watched:
        touch(cpu, "dev_get_by_index_rcu", net=k.net)


def _device(k: SocketKernel, ifindex: int) -> Any:
    return next((dev for dev in k.net.devices.values() if dev.ifindex == ifindex), None)


@kernel_function
def packet_getname(k: SocketKernel, cpu: Cpu, sock: int, uaddr: int, peer: int) -> int:
    """Tell what a socket is bound to; it has no other end."""
    if s32(u32(peer)):
        return -Errno.EOPNOTSUPP
    sk: PacketSock = k.sockfs.at(sock).sk
    _look_up(k, cpu)
    dev = _device(k, sk.ifindex) if sk.ifindex else None
    hatype = (ARPHRD_LOOPBACK if dev.loopback else ARPHRD_ETHER) if dev is not None else 0
    mac = dev.mac if dev is not None else b""
    words = _ADDRESS.pack(
        AF_PACKET, sk.protocol.to_bytes(2, "big"), sk.ifindex, hatype, 0, len(mac), mac.ljust(8, b"\0")
    )
    k.mem.write(uaddr, words)
    return 12 + len(mac)


@kernel_function
def packet_release(k: SocketKernel, cpu: Cpu, sock: int) -> int:
    """Close a packet socket."""
    socket = k.sockfs.at(sock)
    if socket.sk is None:
        return 0
    sk: PacketSock = socket.sk
    _unhook(k, cpu, sk)
    k.net.taps.remove(sk)
    sk.fanout = None
    sk.queue.clear()
    k.functions.skb_queue_purge_reason(cpu, 0, 0)
    k.sockfs.leave(socket)
    k.functions.sk_free(cpu, sk.struct_address)
    return 0


@kernel_function
def packet_poll(k: SocketKernel, cpu: Cpu, file: int, sock: int, wait: int) -> int:
    """Return what can be done with a packet socket."""
    return int(k.functions.datagram_poll(cpu, file, sock, wait))


# ---- data ------------------------------------------------------------------------------------------------------------


@kernel_function
def packet_recvmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, size: int, flags: int) -> int:
    """Receive a packet: bytes, or EAGAIN, EINVAL, EFAULT."""
    socket, to = k.sockfs.at(sock), message_at(k, msg)
    sk: PacketSock = socket.sk
    if flags & ~(MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | 0x4000_0000 | MSG_ERRQUEUE):
        return -Errno.EINVAL
    if flags & MSG_ERRQUEUE:
        return -Errno.EAGAIN
    err = receive_wait(k, cpu, socket, "skb_recv_datagram", nonblock=bool(flags & MSG_DONTWAIT))
    if err:
        return 0 if err == -Errno.ESHUTDOWN else err
    seen = sk.queue[0]
    copied = seen.data[: s64(size)]
    if len(copied) < len(seen.data):
        to.msg_flags |= MSG_TRUNC
    watched = k.net.functions.watched or k.net.tracepoints.watched
    copied_to_user(k, cpu, seen.skb.struct_address if watched else 0, len(copied))
    err = 0 if to.put(copied) else -Errno.EFAULT
    if to.msg_name and not err:
        dev = _device(k, seen.ifindex)
        hatype = ARPHRD_LOOPBACK if dev is not None and dev.loopback else ARPHRD_ETHER
        words = _ADDRESS.pack(AF_PACKET, seen.protocol.to_bytes(2, "big"), seen.ifindex, hatype, seen.pkt_type,
                              len(seen.source), seen.source.ljust(8, b"\0"))  # fmt: skip
        k.mem.write(to.msg_name, words)
        to.msg_namelen = ADDRESS_BYTES
    if not err:
        recv_timestamp(k, cpu, socket, to, seen.time_ns)
        if sk.auxdata:
            status = TP_STATUS_USER | (TP_STATUS_CSUMNOTREADY if seen.ip_summed == CHECKSUM_PARTIAL else 0)
            words = _AUXDATA.pack(status, seen.size, len(seen.data), 0, seen.network, 0, 0)
            put_cmsg_to(k, cpu, to, SOL_PACKET, PACKET_AUXDATA, words)
    if not flags & MSG_PEEK:
        sk.queue.popleft()
        sk.rmem -= seen.truesize
        k.functions.skb_free_datagram(cpu, sk.struct_address, 0)
        if k.net.functions.watched or k.net.tracepoints.watched:
            touch(cpu, "consume_skb", sk_buff=seen.skb)
        seen.skb.release()
    return err or (len(seen.data) if flags & MSG_TRUNC else len(copied))


@kernel_function
def packet_sendmsg(k: SocketKernel, cpu: Cpu, sock: int, msg: int, length: int) -> int:
    """Send a packet past the stack: EINVAL, ENXIO, ENETDOWN, EMSGSIZE, EFAULT (``packet_snd``)."""
    sent, size = message_at(k, msg), s64(length)
    sk: PacketSock = k.sockfs.at(sock).sk
    ifindex, protocol, target = sk.ifindex, sk.protocol, bytes(ETH_ALEN)
    if sent.msg_name and sent.msg_namelen:
        if sent.msg_namelen < 18:
            return -Errno.EINVAL
        _, number, ifindex, _, _, halen, target = _ADDRESS.unpack(k.mem.read(sent.msg_name, ADDRESS_BYTES))
        if sent.msg_namelen < 12 + halen:
            return -Errno.EINVAL
        protocol = int.from_bytes(number, "big")
    dev = _device(k, ifindex)
    if dev is None:
        return -Errno.ENXIO
    if sk.type == SOCK_DGRAM and sent.msg_name and sent.msg_namelen < 12 + ETH_ALEN:
        return -Errno.EINVAL
    if not getattr(dev, "up", True):
        return -Errno.ENETDOWN
    header = ETH_HLEN if sk.type == SOCK_RAW else 0
    if size > dev.mtu + header + (4 if header else 0):
        return -Errno.EMSGSIZE
    data = sent.take(size)
    if data is None:
        return -Errno.EFAULT
    if sk.type == SOCK_RAW and size < ETH_HLEN:
        return -Errno.EINVAL
    if sk.type == SOCK_DGRAM:
        data = target[:ETH_ALEN] + dev.mac + protocol.to_bytes(2, "big") + data
    elif not protocol or protocol == 3:
        protocol = int.from_bytes(data[12:14], "big")
    skb = SkBuff(data, dev, protocol)
    skb.network_header, skb.has_mac_header = ETH_HLEN, True
    skb.priority, skb.mark = sk.priority, sk.mark
    skb.sk = sk  # type: ignore[assignment]
    err = int(dev.dev_queue_xmit(skb, cpu))
    k.net.softnet[cpu.number].settle()
    return -Errno.ENOBUFS if err > 0 and err != 2 else err if err < 0 else size


# ---- options ---------------------------------------------------------------------------------------------------------


@kernel_function
def packet_setsockopt(
    k: SocketKernel, cpu: Cpu, sock: int, level: int, optname: int, optval: int, _is_kernel: int, optlen: int
) -> int:
    """Set an option of a packet socket: ENOPROTOOPT, EINVAL, EBADF, EALREADY."""
    if s32(u32(level)) != SOL_PACKET:
        return -Errno.ENOPROTOOPT
    user = task_of(k, cpu).user
    try:
        value = user.read(optval, int_of(optlen)) if optlen and user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    sk: PacketSock = k.sockfs.at(sock).sk
    optname = s32(u32(optname))
    if optname in (PACKET_ADD_MEMBERSHIP, PACKET_DROP_MEMBERSHIP):
        return 0 if len(value) >= 16 else -Errno.EINVAL
    if len(value) < _INT.size:
        return -Errno.EINVAL
    number = int_option(value)
    if optname == PACKET_AUXDATA:
        sk.auxdata = bool(number)
    elif optname == PACKET_IGNORE_OUTGOING:
        if number not in (0, 1):
            return -Errno.EINVAL
        sk.ignore_outgoing = bool(number)
    elif optname == PACKET_FANOUT:
        return _join(k, cpu, sk, number & 0xFFFF, number >> 16 & 0xFF, number >> 24 & 0xFF)
    elif optname == PACKET_FANOUT_DATA:
        return _fanout_data(k, cpu, sk, number)
    elif optname in (PACKET_VERSION, PACKET_RESERVE, PACKET_LOSS, PACKET_RX_RING):
        raise NotModelled(f"option {optname} of packet sockets", "net/packet/af_packet.c")
    else:
        return -Errno.ENOPROTOOPT
    return 0


def _join(k: SocketKernel, cpu: Cpu, sk: PacketSock, number: int, kind: int, flags: int) -> int:
    # fanout_add()
    if kind > FanoutKind.EBPF:
        return -Errno.EINVAL
    if kind in (FanoutKind.ROLLOVER, FanoutKind.RND, FanoutKind.CBPF) or flags:
        raise NotModelled(f"fanouts of kind {kind} with flags {flags:#x}", "net/packet/af_packet.c: fanout_add")
    if sk.fanout is not None:
        return -Errno.EALREADY
    if not sk.is_running:
        return -Errno.EINVAL
    groups = {other.fanout.number: other.fanout for other in k.net.taps if other.fanout is not None}
    fanout = groups.get(number)
    if fanout is not None and (fanout.kind != kind or (fanout.members and fanout.members[0].ifindex != sk.ifindex)):
        return -Errno.EINVAL
    k.functions.__dev_remove_pack(cpu, sk.struct_address)
    sk.fanout = fanout or Fanout(number, kind, flags)
    sk.fanout.members.append(sk)
    return 0


def _fanout_data(k: SocketKernel, cpu: Cpu, sk: PacketSock, fd: int) -> int:
    # fanout_set_data_ebpf()
    if sk.fanout is None or sk.fanout.kind != FanoutKind.EBPF:
        return -Errno.EINVAL
    prog = task_of(k, cpu).files.lookup(fd)
    if not isinstance(prog, Prog):
        return -(Errno.EBADF if prog is None else Errno.EINVAL)
    if prog.type != 1:
        return -Errno.EINVAL
    prog.get()
    if sk.fanout.prog is not None:
        sk.fanout.prog.put()
    sk.fanout.prog = prog
    return 0


@kernel_function
def packet_getsockopt(k: SocketKernel, cpu: Cpu, sock: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Tell an option of a packet socket: ENOPROTOOPT."""
    if s32(u32(level)) != SOL_PACKET:
        return -Errno.ENOPROTOOPT
    sk: PacketSock = k.sockfs.at(sock).sk
    user = task_of(k, cpu).user
    assert user is not None
    optname = s32(u32(optname))
    try:
        room = s32(int.from_bytes(user.read(optlen, 4), "little"))
        if room < 0:
            return -Errno.EINVAL
        if optname == PACKET_STATISTICS:
            value = _STATS.pack(sk.packets + sk.drops, sk.drops)
            sk.packets = sk.drops = 0
        elif optname in (PACKET_AUXDATA, PACKET_IGNORE_OUTGOING):
            value = _INT.pack(sk.auxdata if optname == PACKET_AUXDATA else sk.ignore_outgoing)
        elif optname == PACKET_FANOUT:
            value = _INT.pack(sk.fanout.number | sk.fanout.kind << 16 if sk.fanout is not None else 0)
        else:
            return -Errno.ENOPROTOOPT
        user.write(optval, value[:room])
        user.write(optlen, min(room, len(value)).to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0
