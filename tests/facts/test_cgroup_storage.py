"""Values of attachments: bpf_get_local_storage() (kernel/bpf/local_storage.c and cgroup.c, v6.18)."""

import struct

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.bpf import ProgType as P

COUNT = """
    r1 = map_fd[{fd}] ll; r2 = 0; call bpf_get_local_storage
    r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 0) = r1
    r0 = 1; exit
"""


@pytest.fixture
def host() -> ebpfsim.Host:
    sim = ebpfsim.Simulation(seed=1)
    one, two = sim.host("h", cpus=2), sim.host("other")
    sim.link(one.nic("eth0", "10.0.0.1/24"), two.nic("eth0", "10.0.0.2/24"))
    return one


def counter(host: ebpfsim.Host, map_type: MapType) -> tuple[int, int]:
    fd = host.bpf.map_create(map_type, 16, 8, 0)
    insns = encode(assemble(COUNT.format(fd=fd)))
    prog = host.bpf.prog_load(P.CGROUP_SKB, insns, license="GPL", expected_attach_type=A.CGROUP_INET_EGRESS).fd
    return fd, prog


def key(host: ebpfsim.Host, path: str) -> bytes:
    # struct bpf_cgroup_storage_key
    return struct.pack("<QI4x", host.cgroup(path).cgroup_id, A.CGROUP_INET_EGRESS)


@pytest.mark.parametrize("map_type", [MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE])
def test_a_value_for_each_attachment(host, map_type) -> None:
    fd, prog = counter(host, map_type)
    links = [host.attach_cgroup(prog, path) for path in ("/a", "/b")]
    # values are there from the beginning, all zeroes
    assert not any(host.bpf.map_lookup_elem(fd, key(host, "/a")))
    for path, count in (("/a", 3), ("/b/below", 1)):
        sock = host.udp_socket(port=7000 + count, cgroup=path)
        for _ in range(count):
            sock.sendto(b"x", "10.0.0.2", 9)
    host.sim.run()
    counts = {path: host.bpf.map_lookup_elem(fd, key(host, path))[:8] for path in ("/a", "/b")}
    # what a group inherits counts for the group that has it
    assert counts == {"/a": struct.pack("<Q", 3), "/b": struct.pack("<Q", 1)}
    links[0].close()
    with pytest.raises(ebpfsim.KernelError, match="ENOENT"):
        host.bpf.map_lookup_elem(fd, key(host, "/a"))
    host.bpf.map_lookup_elem(fd, key(host, "/b"))
    host.kernel.cgroups.rmdir("/b/below")
    host.kernel.cgroups.rmdir("/b")
    assert host.kernel.fds.lookup(fd).get_next_key(None) is None


def test_attachments_that_share_a_map(host) -> None:
    fd, prog = counter(host, MapType.CGROUP_STORAGE)
    again = host.bpf.prog_load(
        P.CGROUP_SKB, encode(assemble(COUNT.format(fd=fd))), license="GPL", expected_attach_type=A.CGROUP_INET_EGRESS
    ).fd
    first, second = host.attach_cgroup(prog, "/a"), host.attach_cgroup(again, "/a")
    host.udp_socket(port=7000, cgroup="/a").sendto(b"x", "10.0.0.2", 9)
    host.sim.run()
    assert host.bpf.map_lookup_elem(fd, key(host, "/a")) == struct.pack("<Q", 2)
    first.close()
    assert host.bpf.map_lookup_elem(fd, key(host, "/a")) == struct.pack("<Q", 2)
    second.close()
    with pytest.raises(ebpfsim.KernelError, match="ENOENT"):
        host.bpf.map_lookup_elem(fd, key(host, "/a"))
