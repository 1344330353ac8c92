"""The raw call on the live kernel: what is refused before the kernel hears of it."""

import pytest

from ebpfsim.errors import InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS

pytestmark = pytest.mark.live


@pytest.fixture
def prog(live_bpf) -> int:
    return live_bpf.prog_load(ProgType.CGROUP_SKB, encode(assemble("r0 = 1; exit"))).fd


def test_nothing_is_attached_to_this_machine(live_bpf, prog) -> None:
    attempts = {
        BpfCmd.PROG_ATTACH: {"attach_bpf_fd": prog, "attach_type": AttachType.CGROUP_INET_EGRESS},
        BpfCmd.LINK_CREATE: {"prog_fd": prog, "attach_type": AttachType.CGROUP_INET_EGRESS},
        BpfCmd.RAW_TRACEPOINT_OPEN: {"prog_fd": prog},
        BpfCmd.PROG_DETACH: {},
    }
    for cmd, fields in attempts.items():
        with pytest.raises(InputError, match="reaches beyond this process"):
            live_bpf.raw(cmd, ATTRS[cmd].pack(fields))


def test_maps_are_small(live_bpf) -> None:
    for kind, key, value, entries in (
        (MapType.QUEUE, 0, 4, 0xFFFF_FFFF),
        (MapType.RINGBUF, 0, 0, 1 << 30),
        (MapType.ARRAY, 4, 1 << 20, 100),
    ):
        fields = {"map_type": kind, "key_size": key, "value_size": value, "max_entries": entries}
        with pytest.raises(InputError, match="too large"):
            live_bpf.raw(BpfCmd.MAP_CREATE, ATTRS[BpfCmd.MAP_CREATE].pack(fields))


def test_memory(live_bpf) -> None:
    address = live_bpf.user.alloc(8, b"abc")
    assert live_bpf.user.read(address, 5) == b"abc\0\0"
    live_bpf.user.write(address + 1, b"x")
    assert live_bpf.user.read(address, 3) == b"axc"
    live_bpf.user.unmap(address)
    with pytest.raises(InputError, match="not memory of"):
        live_bpf.user.read(address, 1)
    with pytest.raises(InputError, match="always writable"):
        live_bpf.user.alloc(8, writable=False)
