"""Programs for functions of other programs: what is refused, in Linux' words (facts observed on Linux 6.12)."""

from pathlib import Path

import pytest

from ebpfsim.btf.types import FuncProto
from ebpfsim.errors import VerifierError
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import AttachType

OBJECT = Path(__file__).resolve().parents[3] / "data" / "trampolines" / "targets.bpf.o"


@pytest.fixture
def target(kernel):
    obj = open_object(OBJECT, bpf=kernel.bpf)
    obj.load(only=["xmain", "tmain"])
    return obj


@pytest.fixture
def load(kernel, target):
    def load(name: str, of: str = "xmain", attach: str = "", kind: int | None = None):
        obj = open_object(OBJECT, bpf=kernel.bpf)
        program = obj.programs[name]
        program.attach_prog_fd = target.programs[of].fd
        program.attach_target = attach or program.attach_target
        if kind is not None:
            program.expected_attach_type = kind
        obj.load(only=[name])
        return kernel.fds.lookup(program.fd)

    return load


@pytest.mark.parametrize("name", ["fentry_xmain", "fexit_xmain", "fentry_sub_s", "fexit_sub_g", "rep", "rep_main"])
def test_main_static_and_global_functions_can_be_targets(load, target, kernel, name: str) -> None:
    prog, xmain = load(name), kernel.fds.lookup(target.programs["xmain"].fd)
    assert isinstance(prog.attach_target.proto, FuncProto)
    assert prog.dst_prog is xmain
    # bpf_trampoline_compute_key(): the target's id above the type's
    assert prog.dst_key == xmain.id << 32 | prog.attach_target.id


def test_a_function_that_does_not_do_what_its_btf_says_has_five_numbers(load) -> None:
    assert load("fexit_sub_p").attach_target.proto is None


def test_the_target_lives_as_long_as_what_is_for_it(load, target, kernel) -> None:
    xmain = kernel.fds.lookup(target.programs["xmain"].fd)
    prog = load("rep")
    refs = xmain.refs
    prog.get()
    prog.put()
    assert xmain.refs == refs
    fd = next(fd for fd in range(3, 100) if kernel.fds.lookup(fd) is prog)
    kernel.bpf.close(fd)
    assert xmain.refs == refs - 1


# facts/hooks "Tracing BPF programs" and "freplace"
REFUSED = [
    ("sleepable", "xmain is not sleepable"),
    ("modifies", "can't modify return codes of BPF programs"),
    ("rep_static", "sub_s() is not a global function"),
    ("rep_two", "rep_two() has 2 args while sub_g() has 1 args"),
    ("rep_skb", "arg0 rep_skb(struct __sk_buff *) doesn't match sub_g(struct xdp_md *)"),
    ("rep_void", "arg0 in rep_void() is not a pointer to context"),
    ("rep_int", "arg0 in rep_int() is INT while sub_g() has PTR"),
]


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_refusals(load, name: str, text: str) -> None:
    with pytest.raises(VerifierError) as error:
        load(name)
    assert text in error.value.log.splitlines()


def test_tp_btf_with_a_program_as_target(load) -> None:
    with pytest.raises(VerifierError, match="EINVAL") as error:
        load("fentry_xmain", kind=AttachType.TRACE_RAW_TP)
    assert "Only FENTRY/FEXIT progs are attachable to another BPF prog" in error.value.log


def test_a_type_that_is_no_function_of_the_target(load) -> None:
    with pytest.raises(VerifierError) as error:
        load("fentry_xmain", of="tmain")
    assert "Subprog xmain doesn't exist" in error.value.log


def test_replacing_a_replacement_is_refused(load, kernel) -> None:
    first = load("rep")
    fd = next(fd for fd in range(3, 100) if kernel.fds.lookup(fd) is first)
    obj = open_object(OBJECT, bpf=kernel.bpf)
    obj.programs["rep_other"].attach_prog_fd = fd
    obj.programs["rep_other"].attach_target = "rep"
    with pytest.raises(VerifierError) as error:
        obj.load(only=["rep_other"])
    assert "Cannot recursively attach" in error.value.log


def test_helpers_of_a_replacement_are_those_of_the_target(kernel, target) -> None:
    # facts/hooks "freplace": helpers are checked as the target's type
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.uapi.bpf import ProgType

    obj = open_object(OBJECT, bpf=kernel.bpf)
    obj.load(only=["tmain"])
    xmain = kernel.fds.lookup(target.programs["xmain"].fd)
    info = kernel.bpf.obj_get_info_by_fd(target.programs["xmain"].fd)
    assert info.btf_id
    sub_g = next(sub for sub in xmain.subprogs if sub.name == "sub_g")
    text = "r2 = 0; r3 = r10; r3 += -8; r4 = 8; call bpf_skb_load_bytes; r0 = 0; exit"
    with pytest.raises(VerifierError) as error:
        kernel.bpf.prog_load(
            ProgType.EXT,
            encode(assemble(text)),
            attach_prog_fd=target.programs["xmain"].fd,
            attach_btf_id=sub_g.type_id,
            prog_btf_fd=kernel.bpf.btf_get_fd_by_id(info.btf_id),
            func_info=sub_g.type_id.to_bytes(4, "little").rjust(8, b"\0"),
        )
    assert "program of this type cannot use helper bpf_skb_load_bytes#26" in error.value.log
