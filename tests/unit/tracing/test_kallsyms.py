"""Names of addresses, and listings of generated images with them."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.jit.text_listing import text_listing
from hooks.text import function_address, prog_text_address
from tracing.kallsyms import Kallsyms, prog_symbol

OBJECT = Path(__file__).resolve().parents[2] / "data" / "trampolines" / "kernel.bpf.o"


@pytest.fixture
def host():
    return Simulation(seed=1).host("h")


def test_functions_programs_and_images(host) -> None:
    obj = host.load(OBJECT)
    host.attach_fexit(obj.programs["fexit"])
    symbols = Kallsyms(host.kernel)
    prog = host.prog(obj.programs["fexit"])
    (trampoline,) = host.kernel.trampolines.by_key.values()
    assert symbols.name_of(function_address("__bpf_prog_enter_recur")) == "__bpf_prog_enter_recur"
    assert symbols.name_of(function_address("bpf_fentry_test1") + 5) == "bpf_fentry_test1+0x5"
    # /proc/kallsyms: bpf_prog_<tag>_<name>
    assert symbols.name_of(prog_text_address(prog)) == f"bpf_prog_{prog.tag.hex()}_fexit" == prog_symbol(prog)
    assert symbols.name_of(trampoline.generation.image.address) == trampoline.name
    assert symbols.name_of(0x1234) == "0x1234"
    names = [name for _, _, name in symbols.bpf_symbols()]
    assert trampoline.name in names
    assert len(names) == len(host.kernel.progs) + 1


def test_a_listing_names_what_it_calls(host) -> None:
    pytest.importorskip("capstone")
    obj = host.load(OBJECT)
    host.attach_fexit(obj.programs["fexit"])
    (trampoline,) = host.kernel.trampolines.by_key.values()
    image, symbols = trampoline.generation.image, Kallsyms(host.kernel)
    lines = text_listing(host.kernel.text.code(image), image.address, symbols.name_of)
    prog = host.prog(obj.programs["fexit"])
    calls = [line.split("\t")[1] for line in lines if "\tcall" in line]
    assert calls == [
        "callq __bpf_tramp_enter", "callq bpf_fentry_test1+0x5", "callq __bpf_prog_enter_recur",
        f"callq {prog_symbol(prog)}", "callq __bpf_prog_exit_recur", "callq __bpf_tramp_exit",
    ]  # fmt: skip
    assert lines[0] == f"{image.address:#x}: {trampoline.name}"
    assert lines[1] == "   0:\tpushq %rbp"
    assert lines[-1].endswith("retq")


def test_the_dispatcher_jumps_to_programs_by_name(host) -> None:
    pytest.importorskip("capstone")
    obj = host.load(OBJECT)
    prog = host.prog(obj.programs["plain"])
    dispatcher = host.kernel.xdp_dispatcher
    dispatcher.change_prog(None, prog)
    symbols = Kallsyms(host.kernel)
    lines = text_listing(dispatcher.code(), dispatcher.page.address, symbols.name_of, opcodes=True)
    assert lines[0].endswith(": bpf_dispatcher_xdp")
    assert f"   7:\tje {prog_symbol(prog)}" in lines
    assert any("__x86_indirect_thunk_rdx" in line for line in lines)
