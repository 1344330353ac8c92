"""Helpers that tell whose a packet or socket is: cookies, users, control groups, namespaces (net/core/filter.c, v6.18).

Left out: classes of net_cls, realms of routes; there are none of these.
"""

from typing import Any

from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.sk_buff import SkbStruct

__all__ = ["HELPERS"]

OVERFLOW_UID = 65534  # kernel/sys.c
FULL_STATES_OFF, TCP_TIME_WAIT, TCP_NEW_SYN_RECV = 18, 6, 12  # __sk_common.skc_state
SK_UID = place("sock", "sk_uid")[0]
INIT_NET_COOKIE = 1
ETH_P_IP_LE, ETH_P_IPV6_LE = 0x0008, 0xDD86  # how a __be16 reads on a little-endian machine
CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_TAI = range(3)  # enum BPF_SKB_CLOCK_*
# contexts whose first member is a socket, and programs that are given one
_BEHIND = frozenset({ProgType.SOCK_OPS, ProgType.CGROUP_SOCK_ADDR, ProgType.CGROUP_SOCKOPT})
_SOCKETS = frozenset({ProgType.CGROUP_SOCK, ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS})


def _sock_at(run: Run, address: int) -> Any:
    # what stands for the ``struct sock`` there
    net = run.kernel.net  # type: ignore[attr-defined]
    for each in (net, *net.namespaces.values()):
        found = each.tcp.structs.find(address) or each.sockets.udp_at(address)
        if found is not None:
            return getattr(found, "listener", None) if run.mem.load(address + 18, 1) == TCP_NEW_SYN_RECV else found
    return None


def _sk_of_skb(run: Run, skb: int) -> int:
    # sk_to_full_sk(skb->sk), 0 without a full one
    sk = SkbStruct(run.mem, skb).sk
    if sk and run.mem.load(sk + FULL_STATES_OFF, 1) in (TCP_TIME_WAIT, TCP_NEW_SYN_RECV):
        return 0
    return sk


def _cgroup_of(run: Run, sk: int) -> Any:
    found = _sock_at(run, sk)
    return found.cgroup if found is not None else run.kernel.cgroups.root  # type: ignore[attr-defined]


def _cgroup_id(group: Any) -> int:
    return int(group.cgroup_id) if group is not None else 0


def _ancestor(group: Any, level: int) -> Any:
    line = [*group.ancestors()][::-1]
    return line[level] if 0 <= level < len(line) else None


def bpf_get_socket_cookie(run: Run, ctx: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a number that no other socket has, 0 for a packet without one."""
    kind = run.prog.type
    if kind in _BEHIND:
        sk = run.mem.load(ctx, 8)
    else:
        sk = ctx if kind in _SOCKETS else SkbStruct(run.mem, ctx).sk
    if not sk:
        return 0
    found = _sock_at(run, sk)
    if found is None:
        raise NotModelled("the cookie of a socket that is not bound", "net/core/sock_diag.c")
    return int(found.file.cookie)


def bpf_get_socket_uid(run: Run, skb: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return whose socket a packet is of, the overflow uid without one."""
    sk = _sk_of_skb(run, skb)
    return run.mem.load(sk + SK_UID, 4) if sk else OVERFLOW_UID


def bpf_skb_cgroup_id(run: Run, skb: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the id of the cgroup of a packet's socket, 0 without one."""
    sk = _sk_of_skb(run, skb)
    return _cgroup_id(_cgroup_of(run, sk)) if sk else 0


def bpf_skb_ancestor_cgroup_id(run: Run, skb: int, level: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the id of a cgroup above that of a packet's socket, by its level; 0 for none."""
    sk = _sk_of_skb(run, skb)
    return _cgroup_id(_ancestor(_cgroup_of(run, sk), s32(u32(level)))) if sk else 0


def bpf_sk_cgroup_id(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the id of a socket's cgroup, 0 for no socket."""
    return _cgroup_id(_cgroup_of(run, sk)) if sk else 0


def bpf_sk_ancestor_cgroup_id(run: Run, sk: int, level: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the id of a cgroup above that of a socket, by its level; 0 for none."""
    return _cgroup_id(_ancestor(_cgroup_of(run, sk), s32(u32(level)))) if sk else 0


def bpf_skb_under_cgroup(run: Run, skb: int, map_address: int, index: int, _r4: int, _r5: int) -> int:
    """Whether a packet's socket belongs to a cgroup of an array, or below it: ENOENT, E2BIG, EAGAIN."""
    sk, map_ = _sk_of_skb(run, skb), run.kernel.map_at(map_address)
    if not sk:
        return u64(-Errno.ENOENT)
    if u32(index) >= map_.max_entries:
        return u64(-Errno.E2BIG)
    group = map_.cgroup_at(u32(index))  # type: ignore[attr-defined]
    if group is None:
        return u64(-Errno.EAGAIN)
    return int(group in list(_cgroup_of(run, sk).ancestors()))


def bpf_get_netns_cookie(run: Run, ctx: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the number of a context's network namespace, that of the first one for NULL."""
    net = run.kernel.net  # type: ignore[attr-defined]
    if ctx and run.prog.type in (ProgType.SCHED_CLS, ProgType.SCHED_ACT):
        dev = net.devices_by_address.get(SkbStruct(run.mem, ctx).dev)
        owner = dev.net if dev is not None else net
    else:
        sk = 0 if not ctx else run.mem.load(ctx, 8) if run.prog.type in _BEHIND else ctx
        found = _sock_at(run, sk) if sk else None
        owner = found.net if found is not None else net
    return INIT_NET_COOKIE + [net, *net.namespaces.values()].index(owner)


def bpf_get_route_realm(_run: Run, _skb: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return 0: no route has a realm."""
    return 0


def bpf_skb_cgroup_classid(_run: Run, _skb: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return 0: nothing is in a cgroup of net_cls."""
    return 0


def bpf_skb_set_tstamp(run: Run, address: int, tstamp: int, kind: int, _r4: int, _r5: int) -> int:
    """Set a packet's time stamp and what clock it is of: EOPNOTSUPP for other protocols, EINVAL."""
    skb, clock = SkbStruct(run.mem, address), u32(kind)
    if skb.protocol not in (ETH_P_IP_LE, ETH_P_IPV6_LE):
        return u64(-Errno.EOPNOTSUPP)
    if clock > CLOCK_TAI or (clock != CLOCK_REALTIME and not tstamp):
        return u64(-Errno.EINVAL)
    skb.tstamp, skb.tstamp_type = tstamp, clock
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_socket_cookie"]: bpf_get_socket_cookie,
    HELPER_IDS["bpf_get_socket_uid"]: bpf_get_socket_uid,
    HELPER_IDS["bpf_skb_cgroup_id"]: bpf_skb_cgroup_id,
    HELPER_IDS["bpf_skb_ancestor_cgroup_id"]: bpf_skb_ancestor_cgroup_id,
    HELPER_IDS["bpf_sk_cgroup_id"]: bpf_sk_cgroup_id,
    HELPER_IDS["bpf_sk_ancestor_cgroup_id"]: bpf_sk_ancestor_cgroup_id,
    HELPER_IDS["bpf_skb_under_cgroup"]: bpf_skb_under_cgroup,
    HELPER_IDS["bpf_get_netns_cookie"]: bpf_get_netns_cookie,
    HELPER_IDS["bpf_get_route_realm"]: bpf_get_route_realm,
    HELPER_IDS["bpf_skb_cgroup_classid"]: bpf_skb_cgroup_classid,
    HELPER_IDS["bpf_skb_set_tstamp"]: bpf_skb_set_tstamp,
}
