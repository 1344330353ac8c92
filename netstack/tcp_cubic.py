"""CUBIC with HyStart (RFC 9438; net/ipv4/tcp_cubic.c, v6.18), in the kernel's integers."""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.isa.alu import s32
from netstack.tcp_hdr import M32, after
from netstack.tcp_reno import Reno, cong_avoid_ai, in_slow_start, is_cwnd_limited, slow_start
from netstack.tcp_states import CaEvent, CaState

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["Cubic", "CubicState", "cubic_root"]

BICTCP_BETA_SCALE, BICTCP_HZ = 1024, 10
BETA = 717  # of 1024
BIC_SCALE = 41
FAST_CONVERGENCE, TCP_FRIENDLINESS = True, True
HYSTART_ACK_TRAIN, HYSTART_DELAY = 1, 2
HYSTART_DETECT = HYSTART_ACK_TRAIN | HYSTART_DELAY
HYSTART_LOW_WINDOW, HYSTART_MIN_SAMPLES = 16, 8
HYSTART_ACK_DELTA_US = 2000
HYSTART_DELAY_MIN_US, HYSTART_DELAY_MAX_US = 4000, 16000
# cubictcp_register()
BETA_SCALE = 8 * (BICTCP_BETA_SCALE + BETA) // 3 // (BICTCP_BETA_SCALE - BETA)
CUBE_RTT_SCALE = BIC_SCALE * 10
CUBE_FACTOR = (1 << (10 + 3 * BICTCP_HZ)) // CUBE_RTT_SCALE
GSO_MAX_SIZE = 65536
HZ = 250
# cubes of 0..63, times 64 and rounded: the first guess of the root
_ROOTS = (
    0, 54, 54, 54, 118, 118, 118, 118, 123, 129, 134, 138, 143, 147, 151, 156, 157, 161, 164, 168, 170, 173, 176, 179,
    181, 185, 187, 190, 192, 194, 197, 199, 200, 202, 204, 206, 209, 211, 213, 215, 217, 219, 221, 222, 224, 225, 227,
    229, 231, 232, 234, 236, 237, 239, 240, 242, 244, 245, 246, 248, 250, 251, 252, 254,
)  # fmt: skip


def cubic_root(a: int) -> int:
    """Return the cubic root as the kernel computes it: a table and one step of Newton-Raphson."""
    b = a.bit_length()
    if b < 7:
        return (_ROOTS[a] + 35) >> 6
    b = ((b * 84) >> 8) - 1
    shift = a >> (b * 3)
    x = (_ROOTS[shift] + 10) << b >> 6
    x = 2 * x + a // (x * (x - 1))
    return (x * 341) >> 10


class CubicState:
    """What CUBIC keeps for a socket (``struct bictcp``)."""

    __slots__ = (
        "ack_cnt", "bic_k", "bic_origin_point", "cnt", "curr_rtt", "delay_min", "end_seq", "epoch_start", "found",
        "last_ack", "last_cwnd", "last_max_cwnd", "last_time", "round_start", "sample_cnt", "tcp_cwnd",
    )  # fmt: skip

    def __init__(self) -> None:
        self.end_seq = self.last_ack = self.round_start = self.curr_rtt = self.sample_cnt = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew (``bictcp_reset``)."""
        self.cnt = self.last_max_cwnd = self.last_cwnd = self.last_time = self.bic_origin_point = self.bic_k = 0
        self.delay_min = self.epoch_start = self.ack_cnt = self.tcp_cwnd = self.found = 0


def _jiffies(us: int) -> int:
    return us * HZ // 1_000_000


class Cubic(Reno):
    """A window that grows with the cube of the time since the last loss."""

    has_pkts_acked = True

    def clear(self, tp: "TcpSock") -> None:
        """Clear what the socket keeps for it."""
        tp.ca_priv = CubicState()

    def init(self, tp: "TcpSock", cpu: Cpu) -> None:
        """A socket begins to use it."""
        ca = tp.ca_priv
        ca.reset()
        self._hystart_reset(tp, ca)

    def cwnd_event(self, tp: "TcpSock", event: int, cpu: Cpu) -> None:
        """After an idle time the curve goes on where it was."""
        if event == CaEvent.TX_START:
            ca, now = tp.ca_priv, tp.tcp_mstamp
            delta = _jiffies(now) - _jiffies(tp.lsndtime)
            if ca.epoch_start and delta > 0:
                ca.epoch_start += delta
                if ca.epoch_start > _jiffies(now):
                    ca.epoch_start = _jiffies(now)

    def _hystart_reset(self, tp: "TcpSock", ca: CubicState) -> None:
        ca.round_start = ca.last_ack = tp.tcp_mstamp & M32
        ca.end_seq = tp.snd_nxt
        ca.curr_rtt = M32
        ca.sample_cnt = 0

    def _update(self, tp: "TcpSock", ca: CubicState, cwnd: int, acked: int) -> None:
        # bictcp_update()
        ca.ack_cnt += acked
        now = _jiffies(tp.tcp_mstamp) or 1
        if ca.last_cwnd == cwnd and now - ca.last_time <= HZ // 32:
            return
        if ca.epoch_start and now == ca.last_time:
            self._friendly(ca, cwnd)
            return
        ca.last_cwnd, ca.last_time = cwnd, now
        if not ca.epoch_start:
            ca.epoch_start = now
            ca.ack_cnt = acked
            ca.tcp_cwnd = cwnd
            if ca.last_max_cwnd <= cwnd:
                ca.bic_k = 0
                ca.bic_origin_point = cwnd
            else:
                ca.bic_k = cubic_root(CUBE_FACTOR * (ca.last_max_cwnd - cwnd))
                ca.bic_origin_point = ca.last_max_cwnd
        t = (now - ca.epoch_start) * (1_000_000 // HZ) + ca.delay_min
        t = (t << BICTCP_HZ) // 1_000_000
        offs = abs(t - ca.bic_k)
        delta = (CUBE_RTT_SCALE * offs * offs * offs) >> (10 + 3 * BICTCP_HZ)
        target = (ca.bic_origin_point - delta if t < ca.bic_k else ca.bic_origin_point + delta) & M32
        ca.cnt = cwnd // (target - cwnd) if target > cwnd else 100 * cwnd
        if not ca.last_max_cwnd and ca.cnt > 20:
            ca.cnt = 20
        self._friendly(ca, cwnd)

    def _friendly(self, ca: CubicState, cwnd: int) -> None:
        # never slower than Reno would be
        delta = (cwnd * BETA_SCALE) >> 3
        while ca.ack_cnt > delta:
            ca.ack_cnt -= delta
            ca.tcp_cwnd += 1
        if ca.tcp_cwnd > cwnd:
            ca.cnt = min(ca.cnt, cwnd // (ca.tcp_cwnd - cwnd))
        ca.cnt = max(ca.cnt, 2)

    def cong_avoid(self, tp: "TcpSock", ack: int, acked: int, cpu: Cpu) -> None:
        """Let the window grow."""
        if not is_cwnd_limited(tp):
            return
        if in_slow_start(tp):
            acked = slow_start(tp, acked)
            if not acked:
                return
        ca = tp.ca_priv
        self._update(tp, ca, tp.snd_cwnd, acked)
        cong_avoid_ai(tp, ca.cnt, acked)

    def ssthresh(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the threshold after a loss."""
        ca, cwnd = tp.ca_priv, tp.snd_cwnd
        ca.epoch_start = 0
        if cwnd < ca.last_max_cwnd and FAST_CONVERGENCE:
            ca.last_max_cwnd = cwnd * (BICTCP_BETA_SCALE + BETA) // (2 * BICTCP_BETA_SCALE)
        else:
            ca.last_max_cwnd = cwnd
        return max(cwnd * BETA // BICTCP_BETA_SCALE, 2)

    def set_state(self, tp: "TcpSock", state: int, cpu: Cpu) -> None:
        """After a timeout everything begins anew."""
        if state == CaState.LOSS:
            tp.ca_priv.reset()
            self._hystart_reset(tp, tp.ca_priv)

    def pkts_acked(self, tp: "TcpSock", acked: int, rtt_us: int, cpu: Cpu) -> None:
        """Learn the least round trip, and leave slow start when queues build up (HyStart)."""
        if rtt_us < 0:
            return
        ca = tp.ca_priv
        if ca.epoch_start and _jiffies(tp.tcp_mstamp) - ca.epoch_start < HZ:
            # the first second after a loss does not count
            return
        delay = rtt_us or 1
        if not ca.delay_min or ca.delay_min > delay:
            ca.delay_min = delay
        if not ca.found and in_slow_start(tp) and tp.snd_cwnd >= HYSTART_LOW_WINDOW:
            self._hystart_update(tp, ca, delay)

    def _hystart_update(self, tp: "TcpSock", ca: CubicState, delay: int) -> None:
        if after(tp.snd_una, ca.end_seq):
            self._hystart_reset(tp, ca)
        snmp = tp.net.snmp
        now = tp.tcp_mstamp & M32
        if s32(now - ca.last_ack & M32) <= HYSTART_ACK_DELTA_US:
            ca.last_ack = now
            threshold = ca.delay_min + self._ack_delay(tp)
            # with pacing the window is as long as a train of ACKs
            threshold >>= 1
            if s32(now - ca.round_start & M32) > threshold:
                ca.found = 1
                snmp.inc("TcpExtTCPHystartTrainDetect")
                snmp.inc("TcpExtTCPHystartTrainCwnd", tp.snd_cwnd)
                tp.snd_ssthresh = tp.snd_cwnd
        if ca.curr_rtt > delay:
            ca.curr_rtt = delay
        if ca.sample_cnt < HYSTART_MIN_SAMPLES:
            ca.sample_cnt += 1
        elif ca.curr_rtt > ca.delay_min + min(max(ca.delay_min >> 3, HYSTART_DELAY_MIN_US), HYSTART_DELAY_MAX_US):
            ca.found = 1
            snmp.inc("TcpExtTCPHystartDelayDetect")
            snmp.inc("TcpExtTCPHystartDelayCwnd", tp.snd_cwnd)
            tp.snd_ssthresh = tp.snd_cwnd

    def _ack_delay(self, tp: "TcpSock") -> int:
        # hystart_ack_delay(): how long a burst of segments takes
        rate = tp.sk_pacing_rate
        if not rate:
            return 0
        return min(1000, GSO_MAX_SIZE * 4 * 1_000_000 // rate)
