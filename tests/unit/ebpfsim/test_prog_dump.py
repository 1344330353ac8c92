"""Programs as BPF_OBJ_GET_INFO_BY_FD shows them, compared with what Linux 6.18 shows."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.prog_dump import function_tags, xlated_dump
from ebpfsim.uapi.bpf import MapType, ProgType

TWO_FUNCTIONS = "call pc+1; exit; r0 = 2; exit"


def test_dump_shows_maps_by_id(kernel) -> None:
    bpf = kernel.bpf
    bpf.map_create(MapType.ARRAY, 4, 4, 1)
    array = bpf.map_create(MapType.ARRAY, 4, 16, 1)
    code = f"r1 = map_value[{array}]+12 ll; r2 = map_fd[{array}] ll; r3 = 0x1122334455 ll; r0 = 2; exit"
    prog = kernel.fds.lookup(bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd)
    shown = "r1 = map_value[2]+12 ll; r2 = map_fd[2] ll; r3 = 0x1122334455 ll; r0 = 2; exit"
    assert xlated_dump(prog) == encode(assemble(shown))


def _load(bpf, code):
    return bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd


def test_calls_between_functions_have_distance_and_number(kernel) -> None:
    prog = kernel.fds.lookup(_load(kernel.bpf, TWO_FUNCTIONS))
    # (85) code, src 1, off 1, imm 1: function 1
    assert xlated_dump(prog)[:8].hex() == "8510010001000000"
    assert len(function_tags(prog)) == 2


def test_one_function_has_the_tag_of_the_program(kernel) -> None:
    prog = kernel.fds.lookup(_load(kernel.bpf, "r0 = 2; exit"))
    assert function_tags(prog) == (prog.tag,)


@pytest.mark.live
@pytest.mark.parametrize("code", [TWO_FUNCTIONS, "r0 = 2; exit", "r6 = r1; call pc+2; call pc+1; exit; r0 = 2; exit"])
def test_linux_gives_functions_the_same_tags(kernel, code) -> None:
    from ebpfsim.live import Bpf

    live = Bpf()
    prog = kernel.fds.lookup(_load(kernel.bpf, code))
    info = live.obj_get_info_by_fd(_load(live, code))
    assert info.xlated_prog_insns == xlated_dump(prog)
    assert info.prog_tags == function_tags(prog)
