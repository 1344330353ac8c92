"""The user's side of AF_XDP: what comes is received once, what is sent arrives, chunks go round."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.xsk_user import XskSocket

FRAME = bytes.fromhex("020000000201 020000000101 88b5") + bytes(46)


def test_frames_go_round() -> None:
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0"), b.nic("eth0"))
    xsks = b.bpf.map_create(MapType.XSKMAP, 4, 4, 1)
    text = f"r1 = map_fd[{xsks}]; r2 = 0; r3 = 0; call bpf_redirect_map; exit"
    b.attach_xdp(b.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL").fd, "eth0")
    xsk = b.xsk_socket("eth0", frames=16)
    b.bpf.map_update_elem(xsks, bytes(4), b.socket_fd(xsk).to_bytes(4, "little"))
    for round_ in range(8):
        frames = [FRAME[:-1] + bytes([8 * round_ + number]) for number in range(8)]
        for frame in frames:
            a.send("eth0", frame)
        sim.run()
        assert xsk.receive() == frames
        assert xsk.send(*frames) == 0
        sim.run()
    assert a.device("eth0").stats.rx_packets == 64
    assert xsk.kernel.statistics[:5] == (0, 0, 0, 0, 0)


def test_a_queue_has_one_umem() -> None:
    sim = Simulation(seed=1)
    host = sim.host("a")
    host.nic("eth0")
    first = XskSocket(host.device("eth0"))
    with pytest.raises(KernelError, match="EBUSY"):
        XskSocket(host.device("eth0"))
    first.close()
    XskSocket(host.device("eth0"))
