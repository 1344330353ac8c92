"""Functions of the kernel that congestion controls in BPF may call (net/ipv4/tcp_cong.c, tcp_cubic.c, v6.18).

They work on the socket's structure in RAM: what programs may have written there is taken over first, and what changes
is written back. The state of CUBIC is ``struct bictcp`` where programs have theirs (``icsk_ca_priv``).

Left out: those of BBR and DCTCP, which are loaded as modules.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ebpfsim.btf.view import place
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run
from netstack.tcp_cubic import Cubic, CubicState
from netstack.tcp_reno import Reno, cong_avoid_ai, slow_start

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["KFUNCS"]

_RENO, _CUBIC = Reno(), Cubic()
# members of struct bictcp that have other names or units in CubicState
_NAMES = {"bic_k": "bic_K"}


def _socket(run: Run, address: int) -> "TcpSock":
    net: Any = run.kernel.net  # type: ignore[attr-defined]
    tp: TcpSock = net.tcp.structs.find(address)
    net.tcp.structs.take_back(tp)
    return tp


def _done(tp: "TcpSock", result: int | None = 0) -> int:
    tp.net.tcp.structs.show_writable(tp)
    return result or 0


def tcp_slow_start(run: Run, sk: int, acked: int, _r3: int, _r4: int, _r5: int) -> int:
    """Let the window grow up to its threshold: how many segments are left."""
    tp = _socket(run, sk)
    return _done(tp, slow_start(tp, u32(acked)))


def tcp_cong_avoid_ai(run: Run, sk: int, w: int, acked: int, _r4: int, _r5: int) -> int:
    """Let the window grow by one for every ``w`` segments."""
    tp = _socket(run, sk)
    cong_avoid_ai(tp, u32(w), u32(acked))
    return _done(tp)


def tcp_reno_ssthresh(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return Reno's threshold after a loss."""
    return _RENO.ssthresh(_socket(run, sk), run.cpu)


def tcp_reno_undo_cwnd(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the window after a loss that was none."""
    return _RENO.undo_cwnd(_socket(run, sk), run.cpu)


def tcp_reno_cong_avoid(run: Run, sk: int, ack: int, acked: int, _r4: int, _r5: int) -> int:
    """Let the window grow as Reno does."""
    tp = _socket(run, sk)
    _RENO.cong_avoid(tp, u32(ack), u32(acked), run.cpu)
    return _done(tp)


def _with_state(run: Run, sk: int, call: Callable[["TcpSock"], int | None]) -> int:
    # one of CUBIC's functions, on the state in RAM
    tp = _socket(run, sk)
    base = sk + place("tcp_sock", "inet_conn.icsk_ca_priv")[0]
    state, kept = CubicState(), tp.ca_priv
    places = [(name, *place("bictcp", _NAMES.get(name, name))) for name in CubicState.__slots__]
    for name, offset, size in places:
        setattr(state, name, run.mem.load(base + offset, size))
    tp.ca_priv = state
    try:
        result = call(tp)
    finally:
        tp.ca_priv = kept
    for name, offset, size in places:
        run.mem.store(base + offset, size, getattr(state, name) & (1 << 8 * size) - 1)
    return _done(tp, result)


def cubictcp_init(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """A socket begins to use CUBIC."""
    return _with_state(run, sk, lambda tp: _CUBIC.init(tp, run.cpu))


def cubictcp_recalc_ssthresh(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return CUBIC's threshold after a loss."""
    return _with_state(run, sk, lambda tp: _CUBIC.ssthresh(tp, run.cpu))


def cubictcp_cong_avoid(run: Run, sk: int, ack: int, acked: int, _r4: int, _r5: int) -> int:
    """Let the window grow as CUBIC does."""
    return _with_state(run, sk, lambda tp: _CUBIC.cong_avoid(tp, u32(ack), u32(acked), run.cpu))


def cubictcp_state(run: Run, sk: int, state: int, _r3: int, _r4: int, _r5: int) -> int:
    """The socket enters a state."""
    return _with_state(run, sk, lambda tp: _CUBIC.set_state(tp, state & 0xFF, run.cpu))


def cubictcp_cwnd_event(run: Run, sk: int, event: int, _r3: int, _r4: int, _r5: int) -> int:
    """Something happened."""
    return _with_state(run, sk, lambda tp: _CUBIC.cwnd_event(tp, u32(event), run.cpu))


def cubictcp_acked(run: Run, sk: int, sample: int, _r3: int, _r4: int, _r5: int) -> int:
    """Segments were acknowledged."""
    acked, rtt_us = run.mem.load(sample, 4), s32(run.mem.load(sample + 4, 4))
    return _with_state(run, sk, lambda tp: _CUBIC.pkts_acked(tp, acked, rtt_us, run.cpu))


KFUNCS: dict[str, Helper] = {
    function.__name__: function
    for function in (
        *(tcp_slow_start, tcp_cong_avoid_ai, tcp_reno_ssthresh, tcp_reno_undo_cwnd, tcp_reno_cong_avoid),
        *(cubictcp_init, cubictcp_recalc_ssthresh, cubictcp_cong_avoid, cubictcp_state, cubictcp_cwnd_event),
        cubictcp_acked,
    )
}
