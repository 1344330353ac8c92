"""Tables of functions: their code, against arch_prepare_bpf_trampoline() of arch/x86/net/bpf_jit_comp.c, v6.18."""

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.layout import member_place
from ebpfsim.btf.types import Int, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.clock import parse_duration
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

KEY, OPS_OFF = bytes(4), 64
OPS = "tcp_congestion_ops"


@pytest.fixture
def host():
    from ebpfsim import Simulation

    return Simulation(seed=1).host("h").kernel


@pytest.fixture
def table(host):
    """A registered table: ssthresh returns 2, cong_avoid nothing, undo_cwnd 0xffffffff."""
    builder = BtfBuilder()
    builder.add(Int("int", 4, 32))
    btf_fd, btf = host.bpf.btf_load(builder.build()), vmlinux()
    struct_id = btf.by_name(OPS, Kind.STRUCT)
    value = bytearray(256)
    for number, member, code in ((0, "ssthresh", "r0 = 2"), (1, "cong_avoid", "r0 = 9"), (8, "undo_cwnd", "r0 = -1")):
        fd = host.bpf.prog_load(
            ProgType.STRUCT_OPS, encode(assemble(f"{code}; exit")), attach_btf_id=struct_id,
            expected_attach_type=number,
        ).fd  # fmt: skip
        at = OPS_OFF + member_place(btf, OPS, member).bit_off // 8
        value[at : at + 8] = fd.to_bytes(8, "little")
    at = OPS_OFF + member_place(btf, OPS, "name").bit_off // 8
    value[at : at + 6] = b"bpf_cc"
    number = btf.by_name(f"bpf_struct_ops_{OPS}", Kind.STRUCT)
    types = {"btf_fd": btf_fd, "btf_vmlinux_value_type_id": number}
    fd = host.bpf.map_create(MapType.STRUCT_OPS, 4, 256, 1, **types)
    host.bpf.map_update_elem(fd, KEY, bytes(value))
    return host.map_by_fd(fd).table


def listing(host, member) -> list[str]:
    capstone = pytest.importorskip("capstone")
    (image,) = [image for image in host.text.images.values() if image.address <= member.address]
    at = member.address - image.address
    code = host.text.code(image)[at : at + member.size]
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return [f"{insn.mnemonic} {insn.op_str}".strip() for insn in disassembler.disasm(code, member.address)]


def test_a_function_returns_what_its_program_returns(host, table) -> None:
    # frame: result 8, regs 16, nregs 24, rbx 32, run_ctx 48
    member = table.members["ssthresh"]
    assert listing(host, member) == [
        "push rbp", "mov rbp, rsp", "sub rsp, 0x30", "mov qword ptr [rbp - 0x20], rbx",
        "mov eax, 1", "mov qword ptr [rbp - 0x18], rax", "mov qword ptr [rbp - 0x10], rdi",
        "xor edi, edi", "mov qword ptr [rbp - 0x30], rdi", f"movabs rdi, {member.prog_addr:#x}",
        "lea rsi, [rbp - 0x30]", f"call {member.enter_addr:#x}", "mov rbx, rax", "test rax, rax",
        f"je {member.address + 0x47:#x}", "lea rdi, [rbp - 0x10]", f"call {member.code_addr:#x}",
        "mov qword ptr [rbp - 8], rax", f"movabs rdi, {member.prog_addr:#x}", "mov rsi, rbx",
        "lea rdx, [rbp - 0x30]", f"call {member.exit_addr:#x}",
        "mov rax, qword ptr [rbp - 8]", "mov rbx, qword ptr [rbp - 0x20]", "leave", "ret",
    ]  # fmt: skip


def test_a_function_without_result(host, table) -> None:
    lines = listing(host, table.members["cong_avoid"])
    assert lines[4:9] == [
        "mov eax, 3", "mov qword ptr [rbp - 0x20], rax", "mov qword ptr [rbp - 0x18], rdi",
        "mov qword ptr [rbp - 0x10], rsi", "mov qword ptr [rbp - 8], rdx",
    ]  # fmt: skip
    assert lines[-3:] == ["mov rbx, qword ptr [rbp - 0x28]", "leave", "ret"]
    assert table.members["cong_avoid"](host.cpus[0], 0, 1, 2) == 0


def test_the_kernels_structure_holds_the_functions(host, table) -> None:
    for name in ("ssthresh", "cong_avoid", "undo_cwnd", "init"):
        at = table.address + member_place(vmlinux(), OPS, name).bit_off // 8
        member = table.members.get(name)
        assert host.mem.load(at, 8) == (member.address if member is not None else 0)
    assert table.members["ssthresh"].symbol == "bpf__tcp_congestion_ops_ssthresh"


def test_calls_are_counted_and_cost_an_indirect_call_through_a_trampoline(host, table) -> None:
    cpu, ssthresh = host.cpus[0], table.members["ssthresh"]
    before = cpu.elapsed_ps
    assert [ssthresh(cpu, 0) for _ in range(5)] == [2] * 5
    assert table.members["undo_cwnd"](cpu, 0) == 0xFFFF_FFFF
    assert table.stats.runs == 6
    # 12 ns and what a retpoline adds, costs/skx3.toml
    row = host.costs.ps
    each = row("struct_ops") + row("call.indirect.retpoline") - row("call.indirect")
    bodies = sum(run.cost_ps for run in host.recorder.runs)
    assert cpu.elapsed_ps - before == 6 * each + bodies
    assert host.struct_ops.charge_ps == each


def test_run_statistics(host, table) -> None:
    host.bpf.enable_stats(0)
    table.members["ssthresh"](host.cpus[0], 0)
    assert table.members["ssthresh"].prog.stats.run_cnt == 1


def test_code_goes_after_a_grace_period(host, table) -> None:
    clock = host.clock
    assert list(host.text.images) == [f"bpf_struct_ops_{table.map.id}"]
    host.bpf.map_delete_elem(_fd(host, table.map), KEY)
    host.fds.close_all()
    assert (host.text.images, host.text.nr_retired, len(host.progs)) == ({}, 1, 0)
    clock.run(until_ns=clock.now_ns + parse_duration("20ms"))
    host.text.reclaim()
    assert host.text.nr_retired == 0


def _fd(host, map_) -> int:
    return host.bpf.map_get_fd_by_id(map_.id)
