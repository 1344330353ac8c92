"""AF_XDP sockets. Numbers and errnos are those of Linux 6.18 in copy mode on lo and veth, asked by the same calls."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.xsk import (
    XDP_COPY,
    XDP_SHARED_UMEM,
    XDP_USE_NEED_WAKEUP,
    XDP_USE_SG,
    XDP_ZEROCOPY,
    XdpSock,
    XskUmem,
)
from netstack.xsk_user import UserRing

FRAME = bytes.fromhex("020000000201 020000000101 88b5") + bytes(46)
REDIRECT = "r1 = map_fd[{xsks}]; r2 = 0; r3 = 1; call bpf_redirect_map; exit"
# what libxdp's default program does: only with a socket, by the number of the queue
LIBXDP = (
    "r6 = r1; r2 = *(u32 *)(r1 + 16); *(u32 *)(r10 - 4) = r2; r1 = map_fd[{xsks}]; r2 = r10; r2 += -4;"
    "call bpf_map_lookup_elem; if r0 == 0 goto out; r2 = *(u32 *)(r0 + 0); r1 = map_fd[{xsks}]; r3 = 2;"
    "call bpf_redirect_map; exit; out: r0 = 2; exit"
)


class World:
    """Two hosts with a wire; b has a socket at eth0."""

    def __init__(self, text: str = REDIRECT, *, mode: str = "native", mtu: int = 3400) -> None:
        self.sim = Simulation(seed=1)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        self.sim.link(self.a.nic("eth0", mtu=mtu), self.b.nic("eth0", mtu=mtu))
        self.xsks = self.b.bpf.map_create(MapType.XSKMAP, 4, 4, 4)
        code = encode(assemble(text.format(xsks=self.xsks)))
        fd = self.b.bpf.prog_load(ProgType.XDP, code, license="GPL").fd
        self.b.attach_xdp(fd, "eth0", mode=mode)

    def sock(self, chunk: int = 4096, head: int = 0, rx: int = 64, fill: tuple[int, ...] = (), **bind: int) -> XdpSock:
        net = self.b.net
        sock, size = XdpSock(net), 16 * chunk
        assert XskUmem.refusal(0, size, chunk, head, 0) == 0
        sock.set_umem(XskUmem(net.kernel.mem, net.kernel.mem.alloc(size), size, chunk, head))
        for name, entries in (("rx", rx), ("tx", 64), ("fill", 64), ("completion", 64)):
            assert sock.set_ring(name, entries) == 0
        ring = UserRing(sock.fill)
        for address in fill or range(0, size, chunk):
            assert ring.put(address.to_bytes(8, "little"))
        assert sock.bind(2, 0, **bind) == 0
        sock.file.get()
        fd = self.b.kernel.fds.install(sock.file)
        self.b.bpf.map_update_elem(self.xsks, bytes(4), fd.to_bytes(4, "little"))
        return sock

    def send(self, *sizes: int) -> None:
        for size in sizes:
            self.a.send("eth0", FRAME[:14] + bytes([size & 255]) * (size - 14))
        self.sim.run()


def descs(sock: XdpSock) -> list[tuple[int, int, int]]:
    mem, rx = sock.net.kernel.mem, sock.rx
    return [(mem.load(at, 8), mem.load(at + 8, 4), mem.load(at + 12, 4)) for at in map(rx.place, range(rx.producer))]


@pytest.mark.parametrize(
    ("changed", "errno"),
    [
        ({}, 0),
        ({"chunk_size": 2048}, 0),
        ({"chunk_size": 1024}, Errno.EINVAL),
        ({"chunk_size": 3000}, Errno.EINVAL),
        ({"chunk_size": 8192}, Errno.EINVAL),
        ({"headroom": 3392}, 0),
        ({"headroom": 3400}, Errno.EINVAL),
        ({"chunk_size": 2048, "headroom": 1344}, 0),
        ({"chunk_size": 2048, "headroom": 1408}, Errno.EINVAL),
        ({"address": 8}, Errno.EINVAL),
        ({"size": 65636}, Errno.EINVAL),
        ({"size": 2048}, Errno.EINVAL),
        ({"flags": 8}, Errno.EINVAL),
    ],
)
def test_umem(changed, errno) -> None:
    assert (
        XskUmem.refusal(**{"address": 0, "size": 65536, "chunk_size": 4096, "headroom": 0, "flags": 0, **changed})
        == -errno
    )


def test_unaligned_chunks_are_not_modelled() -> None:
    with pytest.raises(NotModelled):
        XskUmem.refusal(0, 65536, 4096, 0, 1)


@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize(
    ("options", "sizes", "expected", "statistics"),
    [
        # an address in the middle of a chunk stands for the chunk
        ({"fill": (0, 4096, 8197)}, (60, 1500, 60), [(256, 60, 0), (4352, 1500, 0), (8448, 60, 0)], (0,) * 6),
        ({"chunk": 2048}, (60, 1792, 1793), [(256, 60, 0), (2304, 1792, 0)], (1, 0, 0, 0, 0, 0)),
        ({"chunk": 2048, "head": 128}, (60, 1664, 1665), [(384, 60, 0), (2432, 1664, 0)], (1, 0, 0, 0, 0, 0)),
        ({"fill": (0, 4096)}, (60, 60, 60, 60), [(256, 60, 0), (4352, 60, 0)], (2, 0, 0, 0, 2, 0)),
        ({"rx": 2}, (60, 60, 60, 60), [(256, 60, 0), (4352, 60, 0)], (0, 0, 0, 2, 0, 0)),
        ({"fill": (1 << 20, 0)}, (60, 60), [(256, 60, 0)], (1, 1, 0, 0, 1, 0)),
        (
            {"chunk": 2048, "flags": XDP_COPY | XDP_USE_SG}, (60, 1800, 3000),
            [(256, 60, 0), (2304, 1792, 1), (4352, 8, 0), (6400, 1792, 1), (8448, 1208, 0)], (0,) * 6,
        ),
    ],
)  # fmt: skip
def test_receiving(mode, options, sizes, expected, statistics) -> None:
    world = World(mode=mode)
    sock = world.sock(**options)
    world.send(*sizes)
    assert descs(sock) == expected
    assert sock.statistics == statistics
    mem = world.b.kernel.mem
    for (address, length, more), size in zip(expected, sizes, strict=False):
        if not more and len(expected) <= len(sizes):
            assert mem.read(sock.umem.address + address, length)[14:] == bytes([size & 255]) * (length - 14)


def test_the_program_of_libxdp() -> None:
    """bpf_map_lookup_elem() finds a socket, whose queue_id can be read; without one frames pass."""
    world = World(LIBXDP)
    world.send(60)
    assert world.b.net.drops["UNHANDLED_PROTO"] == 1
    sock = world.sock()
    world.send(60, 60)
    assert len(descs(sock)) == 2
    sock.close()
    world.send(60)
    assert world.b.net.drops["UNHANDLED_PROTO"] == 2


def test_sending_stops_behind_what_is_not_valid() -> None:
    """Each call goes up to one descriptor that is not valid; that is completed as well."""
    world = World()
    sock = world.sock(flags=XDP_COPY | XDP_USE_NEED_WAKEUP)
    tx, comp = UserRing(sock.tx), UserRing(sock.pool.completion)
    assert tx.need_wakeup
    given = [
        (4096, 64, 0), (8096, 200, 0), (1 << 20, 64, 0), (0, 0, 0), (4096, 10, 0), (4096, 64, 8), (4096, 64, 0),
        (64 * 1024 - 64, 64, 0), (100, 3996, 0), (100, 3997, 0), (4096, 1500, 0), (4096, 1515, 0), (4096, 4000, 0),
    ]  # fmt: skip
    for address, length, options in given:
        tx.put(address.to_bytes(8, "little") + length.to_bytes(4, "little") + options.to_bytes(4, "little"))
    seen = []
    for _ in range(7):
        result = sock.sendmsg(world.b.net.cpus[0], dontwait=True)
        seen.append((result, tx.consumer, comp.producer, *sock.statistics[2::3]))
    assert seen == [
        *((0, 2, 2, 1, 0), (0, 3, 3, 2, 0), (0, 4, 4, 3, 0), (0, 6, 6, 4, 0), (0, 10, 10, 5, 0)),
        *((0, 13, 13, 5, 1), (0, 13, 13, 5, 2)),
    ]
    assert [int.from_bytes(comp.take(), "little") for _ in given] == [address for address, _, _ in given]


def test_a_call_sends_at_most_32_frames() -> None:
    world = World()
    sock = world.sock()
    tx, cpu = UserRing(sock.tx), world.b.net.cpus[0]
    for _ in range(50):
        tx.put((4096).to_bytes(8, "little") + (64).to_bytes(8, "little"))
    assert (sock.sendmsg(cpu, dontwait=False), tx.consumer) == (-Errno.EOPNOTSUPP, 0)
    assert (sock.sendmsg(cpu, dontwait=True), tx.consumer) == (-Errno.EAGAIN, 32)
    assert sock.poll(cpu) == (False, True)
    assert (sock.sendmsg(cpu, dontwait=True), tx.consumer) == (0, 50)
    world.sim.run()
    assert world.a.device("eth0").stats.rx_packets == 50
    # the completion ring has room for 14 more
    for _ in range(20):
        tx.put((4096).to_bytes(8, "little") + (64).to_bytes(8, "little"))
    assert (sock.sendmsg(cpu, dontwait=True), tx.consumer) == (-Errno.EAGAIN, 64)


def test_bind() -> None:
    world = World()
    net = world.b.net
    new = XdpSock(net)
    assert new.bind(2, 0) == -Errno.EINVAL
    assert new.sendmsg(net.cpus[0], dontwait=True) == new.recvmsg(dontwait=True) == -Errno.ENXIO
    assert [new.set_ring("rx", entries) for entries in (0, 3, 64, 64)] == [-22, -22, 0, -22]
    assert new.bind(2, 0, XDP_COPY) == -Errno.EINVAL
    assert new.bind(2, 0, 32) == new.bind(2, 5) == -Errno.EINVAL
    assert new.bind(999, 0) == -Errno.ENODEV
    sock = world.sock()
    assert sock.bind(2, 0, XDP_COPY) == sock.set_ring("tx", 64) == sock.set_umem(sock.umem) == -Errno.EBUSY
    assert [sock.set_tx_budget(number) for number in (40, 10, 65)] == [0, -Errno.EACCES, -Errno.EACCES]
    assert sock.recvmsg(dontwait=True) == 0
    assert sock.recvmsg(dontwait=False) == -Errno.EOPNOTSUPP
    assert new.bind(2, 0, XDP_SHARED_UMEM, sock) == 0
    assert new.pool is sock.pool
    other = XdpSock(net)
    for name in ("rx", "fill", "completion"):
        other.set_ring(name, 64)
    other.set_umem(sock.umem)
    assert other.bind(2, 0, XDP_COPY) == -Errno.EBUSY
    assert other.bind(1, 0, XDP_ZEROCOPY) == -Errno.EOPNOTSUPP
    assert other.bind(1, 0, XDP_ZEROCOPY | XDP_COPY) == -Errno.EINVAL
    sock.close()
    assert other.bind(2, 0, XDP_COPY) == -Errno.EBUSY
    new.close()
    assert other.bind(2, 0, XDP_COPY) == 0
