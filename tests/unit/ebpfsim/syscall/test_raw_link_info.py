"""Fact "Link info": ``struct bpf_link_info`` as bytes (info_len in 96, out 64 for all), observed on Linux 6.12."""

import struct
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf import ProgType as P

TEST1 = "bpf_fentry_test1"


class Lab:
    """A host, and what makes links on it."""

    def __init__(self) -> None:
        self.host = Simulation().host("h")
        self.kernel, self.bpf = self.host.kernel, self.host.bpf

    def load(self, kind: P, expected: int = 0, code: str = "r0 = 0; exit", **more: Any) -> int:
        return self.bpf.prog_load(kind, encode(assemble(code)), expected_attach_type=expected, **more).fd

    def info(self, link: int, *pointers: tuple[int, int]) -> bytes:
        """Return the record; ``pointers`` are places of fields that point to room for so many bytes."""
        user = self.bpf.user
        address = user.alloc(96)
        self.rooms = [user.alloc(size) for _, size in pointers]
        for (off, size), room in zip(pointers, self.rooms, strict=True):
            user.write(address + off, struct.pack("<QI", room, size))
        attr = bytearray(struct.pack("<IIQ", link, 96, address))
        self.bpf.raw(BpfCmd.OBJ_GET_INFO_BY_FD, attr)
        assert struct.unpack_from("<I", attr, 4)[0] == 64
        return user.read(address, 64)

    def function(self, name: str) -> int:
        return vmlinux().find(name, Kind.FUNC) or 0


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_head_is_type_id_and_program(lab: Lab) -> None:
    prog = lab.load(P.XDP)
    link = lab.bpf.link_create(prog, 1, A.XDP)
    head = struct.unpack_from("<III", lab.info(link))
    assert head == (6, lab.bpf.obj_get_info_by_fd(link).id, lab.bpf.obj_get_info_by_fd(prog).id)


def test_xdp_ifindex_tcx_ifindex_and_attach_type_46(lab: Lab) -> None:
    assert lab.info(lab.bpf.link_create(lab.load(P.XDP), 1, A.XDP))[16:24] == struct.pack("<II", 1, 0)
    tcx = lab.bpf.link_create(lab.load(P.SCHED_CLS), 1, A.TCX_INGRESS)
    assert lab.info(tcx)[:4] == struct.pack("<I", 11)
    assert lab.info(tcx)[16:24] == struct.pack("<II", 1, 46)


def test_cgroup_id_u64_and_attach_type_u32(lab: Lab) -> None:
    group = lab.host.cgroup("/a")
    group.get()
    fd = lab.kernel.fds.install(group)
    link = lab.bpf.link_create(lab.load(P.CGROUP_SKB, A.CGROUP_INET_EGRESS, "r0 = 1; exit"), fd, A.CGROUP_INET_EGRESS)
    assert lab.info(link)[:4] == struct.pack("<I", 3)
    assert lab.info(link)[16:32] == struct.pack("<QII", group.cgroup_id, A.CGROUP_INET_EGRESS, 0)


@pytest.mark.parametrize(("kind", "function"), [(A.TRACE_FENTRY, TEST1), (A.LSM_MAC, "bpf_lsm_file_open")])
def test_tracing_attach_type_target_object_and_function(lab: Lab, kind: A, function: str) -> None:
    prog_type = P.LSM if kind == A.LSM_MAC else P.TRACING
    link = lab.bpf.link_create(lab.load(prog_type, kind, attach_btf_id=lab.function(function)), 0, kind, cookie=9)
    assert lab.info(link)[:4] == struct.pack("<I", 2)
    # the cookie is there since Linux 6.15
    assert lab.info(link)[32:40] == struct.pack("<Q", 9)
    assert lab.info(link)[16:32] == struct.pack("<IIII", kind, 1, lab.function(function), 0)


@pytest.mark.parametrize("typed", [False, True])
def test_raw_tp_name_and_its_length_with_the_nul_tp_btf_has_a_name_too(lab: Lab, typed: bool) -> None:
    # sched_process_exec: 0x13
    name = "sched_process_exec"
    if typed:
        number = vmlinux().find(f"btf_trace_{name}", Kind.TYPEDEF)
        fd = lab.load(P.TRACING, A.TRACE_RAW_TP, attach_btf_id=number)
        link = lab.bpf.raw_tracepoint_open("", fd)
    else:
        link = lab.bpf.raw_tracepoint_open(name, lab.load(P.RAW_TRACEPOINT))
    record = lab.info(link, (16, 64))
    assert struct.unpack_from("<QI", record, 16) == (lab.rooms[0], 0x13)
    assert lab.bpf.user.read(lab.rooms[0], 0x13) == name.encode() + b"\0"


def test_iter_name_and_its_length(lab: Lab) -> None:
    number = lab.function("bpf_iter_bpf_map")
    link = lab.bpf.link_create(lab.load(P.TRACING, A.TRACE_ITER, attach_btf_id=number), 0, A.TRACE_ITER)
    record = lab.info(link, (16, 64))
    assert record[:4] == struct.pack("<I", 4)
    assert struct.unpack_from("<QI", record, 16) == (lab.rooms[0], len("bpf_map") + 1)


def test_netns_inode_and_attach_type(lab: Lab) -> None:
    link = lab.bpf.link_create(lab.load(P.SK_LOOKUP, A.SK_LOOKUP, "r0 = 1; exit"), lab.host.netns_fd(), A.SK_LOOKUP)
    assert lab.info(link)[:4] == struct.pack("<I", 5)
    assert lab.info(link)[16:24] == struct.pack("<II", lab.kernel.netns.inum, A.SK_LOOKUP)


@pytest.mark.parametrize(("is_return", "number"), [(False, 3), (True, 4)])
def test_perf_event_type_then_name_length_offset_address_missed_cookie(lab: Lab, is_return: bool, number: int) -> None:
    event = lab.kernel.fds.install(lab.kernel.kprobes.open(TEST1, is_return=is_return))
    link = lab.bpf.link_create(lab.load(P.KPROBE), event, A.PERF_EVENT, bpf_cookie=77)
    # type, then behind a hole: u64 func_name, u32 name_len, u32 offset, u64 addr, u64 missed, u64 cookie
    record = lab.info(link, (24, 64))
    assert record[:4] == struct.pack("<I", 7)
    assert struct.unpack_from("<I", record, 16)[0] == number
    name, length, offset, address, missed, cookie = struct.unpack_from("<QIIQQQ", record, 24)
    assert (length, offset, missed, cookie) == (len(TEST1) + 1, 0, 0, 77)
    assert lab.bpf.user.read(name, length) == TEST1.encode() + b"\0"
    assert address == lab.kernel.functions.site(TEST1).address


def test_kprobe_multi_addresses_count_flags_missed_cookies(lab: Lab) -> None:
    fd = lab.load(P.KPROBE, A.TRACE_KPROBE_MULTI)
    link = lab.bpf.link_create(fd, 0, A.TRACE_KPROBE_MULTI, syms=[TEST1, "bpf_fentry_test2"], kprobe_multi_flags=1)
    record = lab.info(link)
    assert record[:4] == struct.pack("<I", 8)
    assert struct.unpack_from("<QIIQQ", record, 16) == (0, 2, 1, 0, 0)


def test_names_that_do_not_fit_are_cut_enospc_pointer_without_length_einval(lab: Lab) -> None:
    link, user = lab.bpf.raw_tracepoint_open("sched_process_exec", lab.load(P.RAW_TRACEPOINT)), lab.bpf.user
    for room, errno in ((6, "ENOSPC"), (0, "EINVAL")):
        address, name = user.alloc(96), user.alloc(64)
        user.write(address + 16, struct.pack("<QI", name, room))
        with pytest.raises(KernelError) as error:
            lab.bpf.raw(BpfCmd.OBJ_GET_INFO_BY_FD, bytearray(struct.pack("<IIQ", link, 96, address)))
        assert error.value.errno_name == errno
        assert user.read(name, 6) == (b"sched\0" if room else bytes(6))


def test_kprobe_multi_arrays_room_for_fewer_enospc(lab: Lab) -> None:
    names = [TEST1, "bpf_fentry_test2"]
    fd = lab.load(P.KPROBE, A.TRACE_KPROBE_MULTI)
    link = lab.bpf.link_create(fd, 0, A.TRACE_KPROBE_MULTI, syms=names, cookies=[5, 6])
    user, places = lab.bpf.user, [lab.kernel.functions.site(name).address for name in names]
    for room, errno in ((2, ""), (1, "ENOSPC")):
        address, addresses, cookies = (user.alloc(96) for _ in range(3))
        user.write(address + 16, struct.pack("<QIIQQ", addresses, room, 0, 0, cookies))
        attr = bytearray(struct.pack("<IIQ", link, 96, address))
        if errno:
            with pytest.raises(KernelError, match=errno):
                lab.bpf.raw(BpfCmd.OBJ_GET_INFO_BY_FD, attr)
        else:
            lab.bpf.raw(BpfCmd.OBJ_GET_INFO_BY_FD, attr)
        pairs = sorted(zip(places, (5, 6), strict=True))[:room]
        assert struct.unpack(f"<{room}Q", user.read(addresses, 8 * room)) == tuple(each for each, _ in pairs)
        assert struct.unpack(f"<{room}Q", user.read(cookies, 8 * room)) == tuple(each for _, each in pairs)
