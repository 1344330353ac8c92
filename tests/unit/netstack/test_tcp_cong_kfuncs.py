"""Functions of the kernel for congestion controls in BPF: what they do to the structure is what the stack does."""

from types import SimpleNamespace
from typing import Any

import pytest

import ebpfsim
from ebpfsim.btf.view import place
from netstack.tcp import tcp_socket
from netstack.tcp_cong_kfuncs import KFUNCS
from netstack.tcp_states import CaState

CA_PRIV = place("tcp_sock", "inet_conn.icsk_ca_priv")[0]


class Socket:
    """A socket, whose structure functions are called on."""

    def __init__(self) -> None:
        host = ebpfsim.Simulation(seed=1).host("h")
        self.net: Any = host.net
        self.tp = tcp_socket(self.net, self.net.cpus[0])
        self.mem = self.net.kernel.mem
        self.address = self.tp.struct_address
        self.tp.is_cwnd_limited = True

    def set(self, name: str, value: int) -> None:
        """Write a member as a program does."""
        offset, size = place("tcp_sock", name)
        self.mem.store(self.address + offset, size, value)

    def get(self, name: str) -> int:
        offset, size = place("tcp_sock", name)
        value: int = self.mem.load(self.address + offset, size)
        return value

    def call(self, name: str, *args: int) -> int:
        run: Any = SimpleNamespace(mem=self.mem, kernel=self.net.kernel, cpu=self.net.cpus[0])
        return KFUNCS[name](run, self.address, *args, *[0] * (4 - len(args)))


@pytest.fixture
def socket() -> Socket:
    return Socket()


def test_slow_start(socket: Socket) -> None:
    socket.set("snd_cwnd", 10)
    socket.set("snd_ssthresh", 14)
    # four of six fit below the threshold
    assert socket.call("tcp_slow_start", 6) == 2
    assert socket.get("snd_cwnd") == socket.tp.snd_cwnd == 14


def test_congestion_avoidance(socket: Socket) -> None:
    socket.set("snd_cwnd", 10)
    socket.set("snd_cwnd_cnt", 7)
    socket.call("tcp_cong_avoid_ai", 10, 5)
    assert (socket.get("snd_cwnd"), socket.get("snd_cwnd_cnt")) == (11, 2)


def test_reno(socket: Socket) -> None:
    socket.set("snd_cwnd", 21)
    assert socket.call("tcp_reno_ssthresh") == 10
    socket.tp.prior_cwnd = 30
    assert socket.call("tcp_reno_undo_cwnd") == 30
    socket.set("snd_ssthresh", 20)
    socket.set("snd_cwnd_cnt", 20)
    socket.call("tcp_reno_cong_avoid", 0, 1)
    assert socket.get("snd_cwnd") == 22


def test_the_state_of_cubic_is_in_the_structure(socket: Socket) -> None:
    socket.set("snd_cwnd", 100)
    # RFC 9438, 4.6: 0.7 of the window
    assert socket.call("cubictcp_recalc_ssthresh") == 70
    at = socket.address + CA_PRIV + place("bictcp", "last_max_cwnd")[0]
    assert socket.mem.load(at, 4) == 100
    # fast convergence (4.7): the next loss comes below that
    socket.set("snd_cwnd", 80)
    assert socket.call("cubictcp_recalc_ssthresh") == 56
    assert socket.mem.load(at, 4) == 80 * (1024 + 717) // 2048
    socket.call("cubictcp_state", CaState.LOSS)
    assert socket.mem.load(at, 4) == 0


def test_cubic_learns_the_least_round_trip(socket: Socket) -> None:
    sample = socket.mem.alloc(16)
    for rtt_us in (9000, 8000, 8500):
        socket.mem.write(sample, (1).to_bytes(4, "little") + rtt_us.to_bytes(4, "little") + bytes(4))
        socket.call("cubictcp_acked", sample)
    assert socket.mem.load(socket.address + CA_PRIV + place("bictcp", "delay_min")[0], 4) == 8000
    socket.call("cubictcp_init")
    assert socket.mem.load(socket.address + CA_PRIV + place("bictcp", "delay_min")[0], 4) == 0
