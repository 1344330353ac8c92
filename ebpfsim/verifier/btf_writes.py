"""Writes into structures of the kernel: what few program types may change (btf_struct_access of their operations).

Follows net/ipv4/bpf_tcp_ca.c, net/bpf/bpf_dummy_struct_ops.c and net/netfilter/nf_conntrack_bpf.c, v6.18.
"""

from typing import NamedTuple

from ebpfsim.btf.layout import member_place, sizeof
from ebpfsim.btf.types import Kind
from ebpfsim.errnos import Errno
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env

__all__ = ["check_struct_write"]


class _Member(NamedTuple):
    struct: str
    path: str
    anywhere: bool = False  # not only at its start


# structure -> members that may be written
_TCP_SOCK = (
    _Member("sock", "sk_pacing_rate"),
    _Member("sock", "sk_pacing_status"),
    _Member("inet_connection_sock", "icsk_ca_priv", anywhere=True),
    _Member("inet_connection_sock", "icsk_ack.pending"),
    _Member("tcp_sock", "snd_cwnd"),
    _Member("tcp_sock", "snd_cwnd_cnt"),
    _Member("tcp_sock", "snd_cwnd_stamp"),
    _Member("tcp_sock", "snd_ssthresh"),
    _Member("tcp_sock", "ecn_flags"),
    _Member("tcp_sock", "app_limited"),
)
_NF_CONN = (_Member("nf_conn", "mark"),)
_TRACKERS = (ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.XDP)


def check_struct_write(env: Env, target: BtfId, off: int, size: int) -> None:
    """Refuse a write through a BTF pointer unless the program type allows it there."""
    name = target.name
    ops = env.target.struct_ops if env.target is not None else ""
    if ops == "tcp_congestion_ops" and name == "tcp_sock":
        _check_members(env, target, "tcp_sock", _TCP_SOCK, off, size)
    elif env.prog_type in _TRACKERS and name in ("nf_conn", "nf_conn___init"):
        _check_members(env, target, "nf_conn", _NF_CONN, off, size)
    elif ops == "bpf_dummy_ops" and name == "bpf_dummy_ops_state":
        if off + size > sizeof(target.btf, target.id):
            raise env.fail(Errno.EACCES, f"write access at off {off} with size {size}\n")
    else:
        raise env.fail(Errno.EACCES, "only read is supported\n")


def _check_members(env: Env, target: BtfId, name: str, members: tuple[_Member, ...], off: int, size: int) -> None:
    for member in members:
        place = member_place(target.btf, target.btf.by_name(member.struct, Kind.STRUCT), member.path)
        start, width = place.bit_off // 8, sizeof(target.btf, place.type_id)
        if off == start or (member.anywhere and start <= off < start + width):
            if off + size <= start + width:
                return
            text = f"write access at off {off} with size {size} beyond the member of {name} ended at {start + width}\n"
            raise env.fail(Errno.EACCES, text)
    raise env.fail(Errno.EACCES, f"no write support to {name} at off {off}\n")
