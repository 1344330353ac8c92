"""BPF_LINK_CREATE as bytes: the union lies at byte 16 of union bpf_attr (include/uapi/linux/bpf.h, v6.18)."""

import struct
from typing import Any

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf import ProgType as P

TEST1, TEST2 = "bpf_fentry_test1", "bpf_fentry_test2"


@pytest.fixture
def load(kernel: Any) -> Any:
    def load(kind: P, expected: int = 0, **more: Any) -> int:
        return kernel.bpf.prog_load(kind, encode(assemble("r0 = 0; exit")), expected_attach_type=expected, **more).fd

    return load


@pytest.fixture
def create(kernel: Any) -> Any:
    """Make a link of the four numbers in front of the union, and the union."""

    def create(prog: int, target: int, kind: A, union: bytes, flags: int = 0) -> int:
        return kernel.bpf.raw(BpfCmd.LINK_CREATE, bytearray(struct.pack("<4I", prog, target, kind, flags) + union))

    return create


def details(kernel: Any, link: int) -> Any:
    return kernel.bpf.obj_get_info_by_fd(link).details


def test_tracing_target_btf_id_then_cookie(kernel: Any, load: Any, create: Any) -> None:
    fd = load(P.TRACING, A.TRACE_FENTRY, attach_btf_id=vmlinux().find(TEST1, Kind.FUNC))
    assert details(kernel, create(fd, 0, A.TRACE_FENTRY, struct.pack("<IIQ", 0, 0, 1 << 40)))["cookie"] == 1 << 40


def test_perf_event_cookie(kernel: Any, load: Any, create: Any) -> None:
    event = kernel.fds.install(kernel.kprobes.open(TEST1))
    link = create(load(P.KPROBE), event, A.PERF_EVENT, struct.pack("<Q", 7))
    assert details(kernel, link)["cookie"] == 7


def test_kprobe_multi_names_and_cookies(kernel: Any, load: Any, create: Any, refused: Any) -> None:
    user, fd = kernel.bpf.user, load(P.KPROBE, A.TRACE_KPROBE_MULTI)
    names = [user.alloc(32, name.encode()) for name in (TEST1, TEST2)]
    syms, cookies = user.alloc(16, struct.pack("<2Q", *names)), user.alloc(16, struct.pack("<2Q", 5, 6))
    link = create(fd, 0, A.TRACE_KPROBE_MULTI, struct.pack("<IIQQQ", 1, 2, syms, 0, cookies))
    found = details(kernel, link)
    assert (found["count"], found["flags"], sorted(found["cookies"])) == (2, 1, [5, 6])
    # no functions; names and addresses; neither
    for count, by_name, by_address in ((0, syms, 0), (2, syms, syms), (2, 0, 0)):
        union = struct.pack("<IIQQQ", 0, count, by_name, by_address, 0)
        assert refused(create, fd, 0, A.TRACE_KPROBE_MULTI, union) == "EINVAL"
    assert refused(create, fd, 0, A.TRACE_KPROBE_MULTI, struct.pack("<IIQQQ", 0, 1 << 21, syms, 0, 0)) == "E2BIG"
    assert refused(create, 987, 0, A.TRACE_KPROBE_MULTI, bytes(40)) == "EBADF"
    assert refused(create, fd, 0, A.TRACE_KPROBE_MULTI, struct.pack("<IIQQQ", 0, 2, 8, 0, 0)) == "EFAULT"


def test_types_without_a_part_do_not_look(kernel: Any, load: Any, create: Any) -> None:
    link = create(load(P.XDP), 1, A.XDP, b"\xff" * 40)
    assert details(kernel, link)["ifindex"] == 1
