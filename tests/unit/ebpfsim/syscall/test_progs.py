"""The program commands (kernel/bpf/syscall.c, v6.18), asked of both kernels."""

import pytest

from ebpfsim.errors import NotModelled, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

PASS = encode(assemble("r0 = 2; exit"))
BAD = encode(assemble("r0 = r5; exit"))


@pytest.mark.parametrize(
    ("changes", "errno"),
    [
        ({"prog_flags": 1 << 30}, "EINVAL"),
        ({"insns": b""}, "E2BIG"),
        ({"name": "a b"}, "EINVAL"),
        ({"name": "x" * 16}, "EINVAL"),
        ({"prog_type": 0}, "EINVAL"),
        ({"prog_type": 33}, "EINVAL"),
        ({"log_level": 16}, "EINVAL"),
        ({"attach_btf_id": 1}, "EINVAL"),
        ({"prog_btf_fd": 987, "func_info": bytes(8)}, "EBADF"),
        ({"prog_btf_fd": 987, "line_info": bytes(16)}, "EBADF"),
        ({"prog_type": ProgType.CGROUP_SKB, "expected_attach_type": AttachType.XDP}, "EINVAL"),
        ({"prog_type": ProgType.CGROUP_SOCKOPT}, "EINVAL"),
        ({"prog_type": ProgType.SK_LOOKUP}, "EINVAL"),
        ({"prog_type": ProgType.CGROUP_SOCK_ADDR}, "EINVAL"),
        ({"prog_type": ProgType.NETFILTER}, "EINVAL"),
        ({"prog_type": ProgType.LIRC_MODE2}, "EINVAL"),
        ({"prog_type": ProgType.CGROUP_SKB, "expected_attach_type": 1000}, "EINVAL"),
        ({"prog_type": ProgType.STRUCT_OPS, "expected_attach_type": 1000}, "ENOTSUPP"),
    ],
)
def test_loads_refused(bpf, refused, changes, errno) -> None:
    attributes = {"prog_type": ProgType.XDP, "insns": PASS} | changes
    assert refused(bpf.prog_load, attributes.pop("prog_type"), attributes.pop("insns"), **attributes) == errno


def test_xdp_programs_take_any_expected_attach_type(bpf) -> None:
    for attach_type in (0, AttachType.XDP, AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP, 1000, 0xFFFF_FFFF):
        assert bpf.prog_load(ProgType.XDP, PASS, expected_attach_type=attach_type).fd > 0


def test_btf_that_nothing_refers_to_is_not_looked_for(bpf) -> None:
    assert bpf.obj_get_info_by_fd(bpf.prog_load(ProgType.XDP, PASS, prog_btf_fd=987).fd).btf_id == 0


def test_loaded(bpf) -> None:
    loaded = bpf.prog_load(ProgType.XDP, PASS)
    assert (loaded.verified_insns, loaded.log) == (2, "")


def test_log_of_what_passed(bpf) -> None:
    log = bpf.prog_load(ProgType.XDP, PASS, log_level=2).log
    assert "0: (b7) r0 = 2                        ; R0" in log
    assert "processed 2 insns (limit 1000000)" in log


def test_refused_program_comes_with_a_log_though_none_was_asked_for(bpf) -> None:
    with pytest.raises(VerifierError) as error:
        bpf.prog_load(ProgType.XDP, BAD)
    assert (error.value.errno_name, error.value.reason) == ("EACCES", "R5 !read_ok")


@pytest.mark.parametrize(("license_", "compatible"), [("GPL", 1), ("Dual MIT/GPL", 1), ("MIT", 0), ("gpl", 0), ("", 0)])
def test_license(bpf, license_, compatible) -> None:
    loaded = bpf.prog_load(ProgType.XDP, PASS, license=license_)
    assert bpf.obj_get_info_by_fd(loaded.fd).gpl_compatible == compatible


def test_gpl_only_helpers(bpf) -> None:
    code = encode(assemble("r1 = r10; r1 += -8; *(u64 *)(r10 - 8) = 0; r2 = 8; call bpf_trace_printk; r0 = 2; exit"))
    assert bpf.prog_load(ProgType.XDP, code).fd > 0
    with pytest.raises(VerifierError) as error:
        bpf.prog_load(ProgType.XDP, code, license="MIT")
    assert error.value.reason == "cannot call GPL-restricted function from non-GPL compatible program"


def test_bound_map_lives_with_the_program(bpf, refused) -> None:
    prog = bpf.prog_load(ProgType.XDP, PASS).fd
    array = bpf.map_create(MapType.ARRAY, 4, 4, 1)
    map_id = bpf.obj_get_info_by_fd(array).id
    bpf.prog_bind_map(prog, array)
    bpf.prog_bind_map(prog, array)
    assert bpf.obj_get_info_by_fd(prog).map_ids == (map_id,)
    bpf.close(array)
    assert bpf.obj_get_info_by_fd(bpf.map_get_fd_by_id(map_id)).id == map_id
    assert refused(bpf.prog_bind_map, prog, prog) == "EINVAL"
    assert refused(bpf.prog_bind_map, 987, prog) == "EBADF"
    assert refused(bpf.prog_bind_map, prog, prog, flags=1) == "EINVAL"


def test_what_is_not_modelled_says_so(kernel) -> None:
    with pytest.raises(NotModelled, match="prog_ifindex"):
        kernel.bpf.prog_load(ProgType.XDP, PASS, ifindex=1)


def test_programs_that_trace_nothing_have_no_other_program(bpf, refused) -> None:
    assert refused(bpf.prog_load, ProgType.XDP, PASS, attach_prog_fd=987) == "EINVAL"


def test_everything_comes_back(kernel) -> None:
    bpf = kernel.bpf
    before = kernel.mem.allocated_bytes
    array = bpf.map_create(MapType.ARRAY, 4, 4, 1)
    code = encode(assemble(f"r1 = map_fd[{array}] ll; r0 = 2; exit"))
    prog = bpf.prog_load(ProgType.XDP, code).fd
    bpf.close(array)
    assert len(kernel.maps) == 1
    bpf.close(prog)
    assert (len(kernel.maps), len(kernel.progs), kernel.mem.allocated_bytes) == (0, 0, before)


def test_nothing_is_left_of_a_refused_load(kernel) -> None:
    before = kernel.mem.allocated_bytes
    with pytest.raises(VerifierError):
        kernel.bpf.prog_load(ProgType.XDP, BAD)
    assert (len(kernel.progs), kernel.mem.allocated_bytes) == (0, before)
