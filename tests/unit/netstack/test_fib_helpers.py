"""bpf_fib_lookup and bpf_check_mtu on packets: what net/core/filter.c of v6.18 says; routers that use them are compared
with Linux in tests/parity."""

from ipaddress import IPv6Address
from struct import pack, unpack_from

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

FRAME = bytes(12) + b"\x08\0" + b"\x45" + bytes(85)
DIRECT, OUTPUT, SKIP_NEIGH, TBID, SRC = 1, 2, 4, 8, 16
MAC = "02:00:00:00:00:99"


@pytest.fixture
def host():
    """eth0 10.0.1.2/24, eth1 10.0.2.2/24 with MTU 1000; 10.0.9.0/24 via 10.0.2.9, whose address is known."""
    host = Simulation(seed=1).host("h", sysctl={"net.ipv4.ip_forward": 1})
    host.nic("eth0", "10.0.1.2/24")
    eth1 = host.nic("eth1", "10.0.2.2/24", mtu=1000)
    host.net.add_route("10.0.9.0/24", via="10.0.2.9", metric=7)
    host.net.neigh.add(eth1, 0x0A000209, bytes.fromhex(MAC.replace(":", "")))
    return host


def lookup(host, dst: str, *, tot_len: int = 100, flags: int = 0, ifindex: int = 2, family: int = 2, plen: int = 64,
           kind: ProgType = ProgType.XDP, src: str = "2001:db8:1::1") -> tuple[int, bytes]:  # fmt: skip
    """The result, and struct bpf_fib_lookup after it."""
    head = family, 17, 0, 0, tot_len, ifindex, 0
    if ":" in dst:
        params = pack("<BBHHHII16s16s4s12s", *head, IPv6Address(src).packed, IPv6Address(dst).packed, b"", b"")
    else:
        daddr = bytes(map(int, dst.split(".")))
        params = pack("<BBHHHII4s12s4s12s4s12s", *head, b"\x0a\0\1\1", b"", daddr, b"", b"", b"")
    fd = host.bpf.map_create(2, 4, 64, 1)
    host.bpf.map_update_elem(fd, bytes(4), params)
    text = f"r6 = r1; r1 = 0; *(u32 *)(r10 - 4) = r1; r1 = map_fd[{fd}]; r2 = r10; r2 += -4; call bpf_map_lookup_elem;"
    text += f"if r0 == 0 goto +6; r1 = r6; r2 = r0; r3 = {plen}; r4 = {flags}; call bpf_fib_lookup; exit; r0 = 77; exit"
    prog = host.bpf.prog_load(kind, encode(assemble(text))).fd
    result = host.bpf.prog_test_run(prog, FRAME).retval
    return (result - (1 << 32) if result >> 31 else result), host.bpf.map_lookup_elem(fd, bytes(4))


def test_a_route_with_its_neighbour(host) -> None:
    result, after = lookup(host, "10.0.9.5")
    assert result == 0
    mtu, ifindex, metric = unpack_from("<HII", after, 6)
    assert (mtu, ifindex, metric) == (1000, 3, 7)
    assert after[32:36] == bytes([10, 0, 2, 9])
    assert after[58:64] == bytes.fromhex(MAC.replace(":", ""))
    assert after[52:58] == host.device("eth1").mac


@pytest.mark.parametrize(
    ("dst", "options", "result"),
    [
        ("10.0.2.77", {}, 7),  # NO_NEIGH
        ("10.0.2.77", {"flags": SKIP_NEIGH}, 0),
        ("10.0.9.5", {"tot_len": 1001}, 8),  # FRAG_NEEDED
        ("10.0.9.5", {"tot_len": 1000}, 0),
        ("10.0.1.2", {}, 4),  # NOT_FWDED: a local address
        ("172.16.0.1", {}, 4),
        ("10.0.1.2", {"flags": DIRECT}, 7),  # the main table knows it as one of the network
        ("10.0.9.5", {"flags": DIRECT | TBID}, 4),  # table 0
        ("10.0.9.5", {"flags": OUTPUT}, 4),  # by eth0 it does not go
        ("10.0.9.5", {"flags": OUTPUT, "ifindex": 3}, 0),
        ("10.0.9.5", {"ifindex": 99}, -19),
        ("10.0.9.5", {"flags": 64}, -22),
        ("10.0.9.5", {"plen": 63}, -22),
        ("10.0.9.5", {"family": 1}, -97),
    ],
)
def test_results(host, dst, options, result) -> None:
    assert lookup(host, dst, **options)[0] == result


def test_forwarding_has_to_be_on() -> None:
    host = Simulation(seed=1).host("h")
    host.nic("eth0", "10.0.1.2/24")
    assert lookup(host, "10.0.1.9")[0] == 5


def test_source_address_of_the_route(host) -> None:
    assert lookup(host, "10.0.9.5", flags=SRC)[1][16:20] == bytes([10, 0, 2, 2])


def test_tc_without_a_length_looks_at_the_packet(host) -> None:
    result, after = lookup(host, "10.0.9.5", tot_len=0, kind=ProgType.SCHED_CLS)
    assert (result, unpack_from("<H", after, 6)[0]) == (0, 1000)


CHECK = [
    # mtu_len, len_diff, flags, result; lo has an MTU of 65536
    (0, 0, 0, 0), (0, 65550, 0, 1), (65536, 0, 0, 0), (65537, 0, 0, 1), (0, 0, 2, -22), (1, 0, 1, -22), (0, 1, 1, -22),
    (0, -50, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("mtu_len", "len_diff", "flags", "result"), CHECK)
@pytest.mark.parametrize("which", ["simulated", pytest.param("live", marks=pytest.mark.live)])
def test_check_mtu_of_packets(which, mtu_len, len_diff, flags, result) -> None:
    if which == "live":
        from ebpfsim.live import Bpf

        bpf = Bpf()
    else:
        bpf = Simulation(seed=1).host("h").bpf
    text = f"r6 = {mtu_len}; *(u32 *)(r10 - 4) = r6; r2 = 0; r3 = r10; r3 += -4; r4 = {len_diff}; r5 = {flags};"
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text + "call bpf_check_mtu; exit"))).fd
    answer = bpf.prog_test_run(fd, FRAME).retval
    assert (answer - (1 << 32) if answer >> 31 else answer) == result


@pytest.fixture
def host6():
    """The same with 2001:db8:1::/64, 2001:db8:2::/64 and 2001:db8:9::/48 behind 2001:db8:2::9."""
    host = Simulation(seed=1).host("h", sysctl={"net.ipv6.conf.all.forwarding": 1})
    host.nic("eth0", "2001:db8:1::2/64")
    eth1 = host.nic("eth1", "2001:db8:2::2/64", mtu=1300)
    host.net.add_route("2001:db8:9::/48", via="2001:db8:2::9", metric=7)
    host.net.add_route("2001:db8:a::/48", type="prohibit")
    host.net.neigh6.add(eth1, int(IPv6Address("2001:db8:2::9")), bytes.fromhex(MAC.replace(":", "")))
    return host


def test_a_route_of_ipv6_with_its_neighbour(host6) -> None:
    result, after = lookup(host6, "2001:db8:9::5", family=10, flags=SRC)
    assert result == 0
    assert unpack_from("<HII", after, 6) == (1300, 3, 7)
    assert after[16:48] == IPv6Address("2001:db8:2::2").packed + IPv6Address("2001:db8:2::9").packed
    assert after[52:64] == host6.device("eth1").mac + bytes.fromhex(MAC.replace(":", ""))


@pytest.mark.parametrize(
    ("dst", "options", "result"),
    [
        ("2001:db8:2::77", {}, 7),
        ("2001:db8:2::77", {"flags": SKIP_NEIGH}, 0),
        ("2001:db8:9::5", {"tot_len": 1301}, 8),
        ("2001:db8:9::5", {"tot_len": 1300}, 0),
        ("2001:db8:1::2", {}, 4),
        ("2001:db8:99::1", {}, 4),
        ("2001:db8:a::1", {}, 3),
        ("2001:db8:9::5", {"flags": DIRECT}, 0),
        ("2001:db8:9::5", {"flags": DIRECT | TBID}, 4),
        ("2001:db8:9::5", {"flags": OUTPUT}, 4),
        ("2001:db8:9::5", {"flags": OUTPUT, "ifindex": 3}, 0),
        ("2001:db8:9::5", {"ifindex": 99}, -19),
        # rt6_need_strict()
        ("fe80::1", {}, 4),
        ("ff02::1", {}, 4),
        ("2001:db8:9::5", {"src": "fe80::1"}, 4),
    ],
)
def test_results_of_ipv6(host6, dst, options, result) -> None:
    assert lookup(host6, dst, **{"family": 10, **options})[0] == result


def test_forwarding_of_ipv6_has_to_be_on() -> None:
    host = Simulation(seed=1).host("h")
    host.nic("eth0", "2001:db8:1::2/64")
    assert lookup(host, "2001:db8:1::5", family=10)[0] == 5
