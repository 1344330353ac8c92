"""The helpers of the network floor, for the composition root to merge with those of the core."""

from ebpfsim.progs.runtime import Helper
from hooks import cgroup_run
from netstack import (
    fib_helpers,
    lwt_bpf,
    owner_helpers,
    redirect_helpers,
    reuseport,
    sk_lookup,
    skb_helpers,
    skb_room,
    skb_verdict,
    skmsg,
    sock_helpers,
    tcp_sock_ops,
    tcp_syncookies,
    tunnel_key,
    xdp_helpers,
)

__all__ = ["HELPERS"]

HELPERS: dict[int, Helper] = {
    **xdp_helpers.HELPERS,
    **fib_helpers.HELPERS,
    **lwt_bpf.HELPERS,
    **owner_helpers.HELPERS,
    **tunnel_key.HELPERS,
    **redirect_helpers.HELPERS,
    **skb_helpers.HELPERS,
    **skb_room.HELPERS,
    **skb_verdict.HELPERS,
    **skmsg.HELPERS,
    **sock_helpers.HELPERS,
    **cgroup_run.HELPERS,
    **reuseport.HELPERS,
    **sk_lookup.HELPERS,
    **tcp_sock_ops.HELPERS,
    **tcp_syncookies.HELPERS,
}
