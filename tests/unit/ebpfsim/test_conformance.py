"""Programs without a verifier, on each engine."""

from itertools import accumulate
from struct import pack

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.conformance import ENGINES, Conformance
from ebpfsim.errors import DecodeError, ElfError, InputError, KernelOops, NotModelled, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.jit.engine import unavailable

MEMORY = bytes.fromhex("0123456789abcdef")


@pytest.fixture(params=list(ENGINES))
def conformance(request: pytest.FixtureRequest) -> Conformance:
    if request.param == "jit" and unavailable():
        pytest.skip(unavailable())
    return Conformance(request.param)


def elf(sections: list[tuple[str, int, int, bytes]], symbols: list[tuple[str, int, int, int, int]]) -> bytes:
    """Return an object as the public suite writes them: one string table for sections and symbols, no BTF.

    ``sections`` are name, type, flags and contents from index 2 on; 1 is the symbol table. ``symbols`` are name,
    info, section, value and size. Layout: System V ABI, ELF-64; EM_BPF is 247.
    """
    names = ["", ".symtab", *(name for name, *_ in sections), ".shstrtab", *(symbol[0] for symbol in symbols)]
    offsets = [0, *accumulate(len(name) + 1 for name in names[:-1])]
    place = dict(zip(names, offsets, strict=True))
    strings = b"".join(name.encode() + b"\0" for name in names)
    strtab = 2 + len(sections)
    table = bytes(24) + b"".join(
        pack("<IBBHQQ", place[name], i, 0, shndx, at, size) for name, i, shndx, at, size in symbols
    )
    bodies = [("", 0, 0, b""), (".symtab", 2, 0, table), *sections, (".shstrtab", 3, 0, strings)]
    at, headers, data = 64, b"", b""
    for name, kind, flags, body in bodies:
        link = {2: strtab, 9: 1}.get(kind, 0)
        info = {2: 1, 9: 2}.get(kind, 0)
        entry = {2: 24, 9: 16}.get(kind, 0)
        headers += pack("<IIQQQQIIQQ", place[name], kind, flags, 0, at if body else 0, len(body), link, info, 4, entry)
        data += body
        at += len(body)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0, at, 0, 64, 0, 0, 64, len(bodies), strtab)
    return header + data + headers


def text_only(code: str, section: str = ".text") -> bytes:
    body = encode(assemble(code))
    return elf([(section, 1, 6, body)], [("main", 0x12, 2, 0, len(body))])


def test_r1_is_the_memory_and_r2_its_size(conformance: Conformance) -> None:
    assert conformance.run(assemble("r0 = *(u64 *)(r1 + 0); exit"), MEMORY) == 0xEFCDAB8967452301
    assert conformance.run(assemble("r0 = r2; exit"), MEMORY) == 8
    assert conformance.run(assemble("r0 = r1; r0 |= r2; exit")) == 0


def test_all_64_bits_of_r0(conformance: Conformance) -> None:
    assert conformance.run(assemble("r0 = -2; exit")) == 0xFFFF_FFFF_FFFF_FFFE


def test_each_run_has_its_own_memory(conformance: Conformance) -> None:
    code = assemble("r3 = *(u8 *)(r1 + 0); *(u8 *)(r1 + 0) = 9; r0 = r3; exit")
    assert [conformance.run(code, MEMORY) for _ in range(2)] == [1, 1]


def test_functions_and_helpers(conformance: Conformance) -> None:
    assert conformance.run(assemble("r1 = 4; call f; r0 += 1; exit; f: r0 = r1; r0 *= 2; exit")) == 9
    assert conformance.run(assemble("call bpf_get_smp_processor_id; exit")) == 0
    code = "r1 = 5; r2 = subprog[f]; r3 = r10; r4 = 0; call bpf_loop; exit; f: r0 = 0; exit"
    assert conformance.run(assemble(code)) == 5


def test_a_function_without_end_is_an_oops(conformance: Conformance) -> None:
    with pytest.raises(KernelOops, match=r"stack overflow|calls without end"):
        conformance.run(assemble("call f; exit; f: call f; exit"))


def test_packet_loads_see_the_memory(conformance: Conformance) -> None:
    assert conformance.run(assemble("r6 = r1; r0 = *(u32 *)skb[1]; exit"), MEMORY) == 0x23456789
    assert conformance.run(assemble("r6 = r1; r7 = 6; r0 = *(u16 *)skb[r7 - 1]; exit"), MEMORY) == 0xABCD
    assert conformance.run(assemble("r6 = r1; r0 = 7; r0 = *(u8 *)skb[8]; r0 = 9; exit"), MEMORY) == 0
    # only the function ends
    assert conformance.run(assemble("r6 = r1; call f; r0 += 5; exit; f: r0 = *(u8 *)skb[8]; exit"), MEMORY) == 5


def test_a_fault_has_the_slot_that_was_given(conformance: Conformance) -> None:
    code = assemble("r6 = r1; r0 = *(u8 *)skb[0]; r3 = 16; r0 = *(u8 *)(r3 + 0); exit")
    with pytest.raises(KernelOops) as caught:
        conformance.run(code, MEMORY)
    assert str(caught.value) == "kernel oops: read of 1 bytes near NULL in program 'program' at insn 3, address 0x10"


def test_what_is_no_program_is_refused(conformance: Conformance) -> None:
    with pytest.raises(DecodeError, match=r"reserved fields: off is 1"):
        conformance.run((Insn(0x95, off=1),))
    with pytest.raises(NotModelled, match="helper"):
        conformance.run((Insn(0x85, imm=9999), Insn(0x95)))
    with pytest.raises(NotModelled, match="kernel function schedule"):
        conformance.run((Insn(0x85, src=2, imm=vmlinux().by_name("schedule", Kind.FUNC)), Insn(0x95)))


def test_maps_by_descriptor(conformance: Conformance) -> None:
    from ebpfsim.uapi.bpf import MapType

    bpf = conformance.host.bpf
    fd = bpf.map_create(MapType.ARRAY, 4, 16, 1)
    bpf.map_update_elem(fd, bytes(4), bytes(8) + (77).to_bytes(8, "little"))
    lookup = "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; call bpf_map_lookup_elem; r0 = *(u64 *)(r0 + 8); exit"
    assert conformance.run(assemble(f"r1 = map[fd:{fd}] ll; {lookup}")) == 77
    assert conformance.run(assemble(f"r1 = map[fd:{fd}][0]+8 ll; r0 = *(u64 *)(r1 + 0); exit")) == 77
    with pytest.raises(InputError, match=f"the value of map fd {fd} has no address at offset 16"):
        conformance.run(assemble(f"r1 = map[fd:{fd}][0]+16 ll; exit"))
    with pytest.raises(InputError, match="fd 99 is not pointing to a map"):
        conformance.run(assemble("r1 = map[fd:99] ll; exit"))
    with pytest.raises(NotModelled, match="of kind 3"):
        conformance.run(assemble("r1 = btf[id:1] ll; exit"))


def test_an_object_with_one_function(conformance: Conformance) -> None:
    assert conformance.run_elf(text_only("r0 = *(u8 *)(r1 + 7); exit"), MEMORY) == 0xEF
    assert conformance.run_elf(text_only("r0 = r2; exit", "xdp"), MEMORY) == 8
    with pytest.raises(ElfError):
        conformance.run_elf(b"\x7fELF")
    with pytest.raises(DecodeError):
        conformance.run_elf(text_only("r0 = 1"))


def test_an_object_with_a_map_of_the_old_kind(conformance: Conformance) -> None:
    lookup = "*(u32 *)(r10 - 4) = 1; r1 = 0 ll; r2 = r10; r2 += -4; call bpf_map_lookup_elem;"
    code = encode(assemble(f"{lookup} r1 = 1; if r0 != 0 goto +1; r1 = 0; r0 = r1; exit"))
    definition = pack("<5I", 2, 4, 4, 10, 0)
    relocation = pack("<QQ", 8, 2 << 32 | 1)  # R_BPF_64_64 against symbol 2
    made = elf(
        [(".text", 1, 6, code), ("maps", 1, 3, definition), (".rel.text", 9, 0, relocation)],
        [("main", 0x12, 2, 0, len(code)), ("array", 0x11, 3, 0, len(definition))],
    )
    assert conformance.run_elf(made) == 1


def test_as_an_xdp_program_through_the_verifier(conformance: Conformance) -> None:
    # what the runner puts in front with --xdp_prolog: memory in R1, its size in R2
    prolog = "r6 = r1; r1 = *(u32 *)(r6 + 0); r2 = *(u32 *)(r6 + 4); r3 = r1; r3 += 8;"
    prolog += "r0 = -1; if r3 <= r2 goto +1; exit; r2 = 8;"
    code = prolog + "r0 = *(u8 *)(r1 + 7); exit"
    assert conformance.run_xdp(encode(assemble(code)), MEMORY) == 0xEF
    assert conformance.run_xdp(text_only(code), MEMORY, elf=True) == 0xEF
    with pytest.raises(VerifierError):
        conformance.run_xdp(encode(assemble("r0 = *(u64 *)(r1 + 99); exit")), MEMORY)


def test_an_engine_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="unknown engine 'gcc'"):
        Conformance("gcc")


@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_debug_mode_checks_unverified_programs(engine: str) -> None:
    if engine == "jit" and unavailable():
        pytest.skip(unavailable())
    debugged = Conformance(engine, debug=True)
    assert debugged.run(assemble("r0 = *(u64 *)(r1 + 2); exit"), bytes(range(10))) == 0x0908070605040302
    with pytest.raises(KernelOops) as caught:
        debugged.run(assemble("r0 = *(u64 *)(r1 + 3); exit"), bytes(range(10)))
    assert caught.value.reason == "slab-out-of-bounds: read of 8 bytes"
    assert caught.value.about.startswith("1 bytes over the end of the memory (10 bytes at ")
    assert caught.value.insn_idx == 0
    # the memory of a run that is over is gone
    with pytest.raises(KernelOops, match="slab-use-after-free"):
        debugged.run(assemble(f"r1 = {caught.value.registers[1]:#x} ll; r0 = *(u8 *)(r1 + 0); exit"))
