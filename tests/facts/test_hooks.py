"""Facts about trampolines, functions of programs and XDP links that the other files leave out (Linux 6.12 and 6.18)."""

from pathlib import Path
from typing import Any

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import EbpfSimError, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.bpf import ProgType as P

OBJECT = Path(__file__).resolve().parents[1] / "data" / "trampolines" / "targets.bpf.o"
ZERO = "r0 = 0; exit"


@pytest.fixture
def host(make_kernel: Any) -> Any:
    return make_kernel()


@pytest.fixture
def load(host: Any) -> Any:
    def load(kind: A, function: str, code: str = ZERO, **more: Any) -> int:
        number = vmlinux().find(function, Kind.FUNC)
        options = {"expected_attach_type": kind, "attach_btf_id": number} | more
        return host.bpf.prog_load(P.TRACING, encode(assemble(code)), **options).fd

    return load


@pytest.fixture
def target(host: Any) -> Any:
    obj = open_object(OBJECT, bpf=host.bpf)
    obj.load(only=["xmain"])
    return obj


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(host: Any, load: Any) -> Any:
    """Call a function that stands for one of the kernel, with a program on it; return the words that the program kept.

    The program stores ``count`` words of its context and then what bpf_get_func_arg_cnt() says.
    """

    def seen(function: str, kind: A, args: list[int], count: int, result: int, hidden: Any = ()) -> list[int]:
        table = host.bpf.map_create(MapType.ARRAY, 4, 8 * (count + 1), 1)
        # all rooms are there, so that none comes later with a function of that name
        host.functions.names()
        host.functions._originals[function] = host.functions.__dict__[function] = lambda _cpu, *_args: result
        kept = [8 * n for n in range(count) if n not in hidden]
        stores = "".join(f"r1 = *(u64 *)(r6 + {off}); *(u64 *)(r7 + {off}) = r1; " for off in kept)
        code = f"""
            r6 = r1; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{table}]; call bpf_map_lookup_elem
            if r0 == 0 goto out; r7 = r0; {stores}
            r1 = r6; call bpf_get_func_arg_cnt; *(u64 *)(r7 + {8 * count}) = r0; out: r0 = 0; exit
        """
        host.bpf.link_create(load(kind, function, code), 0, kind)
        assert getattr(host.functions, function)(host.cpus[0], *args) == result
        found = host.bpf.map_lookup_elem(table, bytes(4))
        return [int.from_bytes(found[at : at + 8], "little") for at in range(0, len(found), 8)]

    return seen


def test_ten_arguments(seen: Any) -> None:
    """ip_make_skb: stack args in ctx[6..9], fexit ret at ctx[10], arg_cnt 10."""
    args = list(range(101, 111))
    # a pointer to a function and one to a pointer may not be read
    found = seen("ip_make_skb", A.TRACE_FEXIT, args, 11, 0x7777, hidden=(2, 7))
    assert found == [101, 102, 0, 104, 105, 106, 107, 0, 109, 110, 0x7777, 10]


def test_a_structure_by_value_takes_two_words(seen: Any) -> None:
    """do_tcp_setsockopt, sockptr_t: ctx[3] pointer, ctx[4] flags, next arg ctx[5]; arg_cnt 6; fexit ret ctx[6]."""
    args = [1, 2, 3, 0xFFFF_8880_0000_1000, 1, 9]
    # -22 in 32 bits
    assert seen("do_tcp_setsockopt", A.TRACE_FEXIT, args, 7, -22) == [*args, 0xFFFF_FFEA, 6]


def test_test_run_of_a_program_for_another_function_0(host: Any, load: Any) -> None:
    fd = load(A.TRACE_FENTRY, "do_getpgid")
    assert host.bpf.prog_test_run(fd).retval == 0


def test_names_that_libbpf_does_not_find(host: Any, tmp_path: Path) -> None:
    """No BTF func: -ENOENT of libbpf (kernel never asked); tp_btf unknown -ESRCH."""
    for section, errno in (("fentry/no_such_function", "ESRCH"), ("tp_btf/no_such_event", "ESRCH")):
        obj = open_object(OBJECT, bpf=host.bpf)
        program = obj.programs["fentry_tmain"]
        program.attach_target = section.partition("/")[2]
        if section.startswith("tp_btf"):
            program.expected_attach_type = A.TRACE_RAW_TP
        with pytest.raises(EbpfSimError) as error:
            obj.load(only=["fentry_tmain"])
        assert error.value.errno_name == errno  # type: ignore[attr-defined]


# ---- programs for programs ------------------------------------------------------------------------------------------


def test_38_programs_on_a_function_of_a_program_then_e2big(host: Any, target: Any, refused: Any) -> None:
    def attach(name: str) -> int:
        obj = open_object(OBJECT, bpf=host.bpf)
        obj.programs[name].attach_prog_fd = target.programs["xmain"].fd
        obj.load(only=[name])
        fd = obj.programs[name].fd
        return host.bpf.link_create(fd, 0, host.fds.lookup(fd).expected_attach_type)

    for number in range(38):
        attach("fexit_xmain" if number % 2 else "fentry_xmain")
    assert refused(attach, "fentry_xmain") == "E2BIG"
    assert host.bpf.prog_test_run(target.programs["xmain"].fd, bytes(64)).retval == 42


def refusal(
    host: Any, code: str = ZERO, kind: P = P.TRACING, attach: int = A.TRACE_FENTRY, **more: Any
) -> tuple[str, str]:
    with pytest.raises(EbpfSimError) as error:
        host.bpf.prog_load(kind, encode(assemble(code)), expected_attach_type=attach, log_level=1, **more)
    log = error.value.log if isinstance(error.value, VerifierError) else ""
    return error.value.errno_name, log  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [P.TRACING, P.EXT])
def test_a_target_without_btf(host: Any, kind: P) -> None:
    fd = host.bpf.prog_load(P.XDP, encode(assemble("r0 = 2; exit"))).fd
    attach = A.TRACE_FENTRY if kind == P.TRACING else 0
    errno, log = refusal(host, kind=kind, attach=attach, attach_prog_fd=fd, attach_btf_id=1)
    assert errno == "EINVAL"
    assert "FENTRY/FEXIT program can only be attached to another program annotated with BTF" in log


def test_attach_prog_fd_is_a_map(host: Any) -> None:
    fd = host.bpf.map_create(MapType.ARRAY, 4, 4, 1)
    assert refusal(host, attach_prog_fd=fd, attach_btf_id=1) == ("EINVAL", "")


def test_writing_through_the_xdp_buff(host: Any, target: Any) -> None:
    """-EACCES; Linux 6.12 says ``R1 invalid mem access 'scalar'``, since 6.17 a pointer to void can be read."""
    xmain = target.programs["xmain"].fd
    number = next(sub.type_id for sub in host.fds.lookup(xmain).subprogs if sub.name == "xmain")
    code = "r1 = *(u64 *)(r1 + 0); r1 = *(u64 *)(r1 + 0); *(u8 *)(r1 + 0) = 0; r0 = 0; exit"
    errno, log = refusal(host, code, attach_prog_fd=xmain, attach_btf_id=number)
    assert errno == "EACCES"
    assert "only_untrusted_mem" in log


def test_an_extension_without_btf(host: Any, target: Any) -> None:
    xmain = target.programs["xmain"].fd
    number = next(sub.type_id for sub in host.fds.lookup(xmain).subprogs if sub.name == "sub_g")
    errno, log = refusal(host, kind=P.EXT, attach=0, attach_prog_fd=xmain, attach_btf_id=number)
    assert errno == "EINVAL"
    assert "Program extension requires BTF" in log


def test_an_extension_into_a_prog_array_einval(host: Any, target: Any, refused: Any) -> None:
    obj = open_object(OBJECT, bpf=host.bpf)
    obj.programs["rep"].attach_prog_fd = target.programs["xmain"].fd
    obj.load(only=["rep"])
    array = host.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 1)
    value = obj.programs["rep"].fd.to_bytes(4, "little")
    assert refused(host.bpf.map_update_elem, array, bytes(4), value) == "EINVAL"


def test_extended_programs_and_program_arrays_exclude_each_other(host: Any, target: Any, refused: Any) -> None:
    """bpf_freplace_check_tgt_prog(), prog_fd_array_get_ptr(), v6.18: EBUSY both ways."""
    obj = open_object(OBJECT, bpf=host.bpf)
    obj.programs["rep"].attach_prog_fd = target.programs["xmain"].fd
    obj.load(only=["rep"])
    array, rep = host.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 2), obj.programs["rep"].fd
    value, other = target.programs["xmain"].fd.to_bytes(4, "little"), (1).to_bytes(4, "little")
    for key in (bytes(4), other):
        host.bpf.map_update_elem(array, key, value)
    assert refused(host.bpf.link_create, rep, 0, 0) == "EBUSY"
    host.bpf.map_delete_elem(array, bytes(4))
    assert refused(host.bpf.link_create, rep, 0, 0) == "EBUSY"
    host.bpf.map_delete_elem(array, other)
    link = host.bpf.link_create(rep, 0, 0)
    assert refused(host.bpf.map_update_elem, array, bytes(4), value) == "EBUSY"
    host.bpf.close(link)
    host.bpf.map_update_elem(array, bytes(4), value)


def test_the_array_of_an_extension_refuses_programs_of_its_target_type(host: Any, target: Any, refused: Any) -> None:
    array, other = (host.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 1) for _ in range(2))
    subs = host.fds.lookup(target.programs["xmain"].fd)
    number = next(sub.type_id for sub in subs.subprogs if sub.name == "xmain")
    types = {"prog_btf_fd": btf_fd(host, subs), "func_info": number.to_bytes(4, "little").rjust(8, b"\0")}

    def load(kind: P, in_array: int, **more: Any) -> int:
        code = encode(assemble(f"r2 = map_fd[{in_array}]; r3 = 0; call bpf_tail_call; r0 = 1; exit"))
        return host.bpf.prog_load(kind, code, **types, **more).fd

    extension = load(P.EXT, array, attach_prog_fd=load(P.XDP, other), attach_btf_id=number)
    host.bpf.link_create(extension, 0, 0)
    plain = host.bpf.prog_load(P.XDP, encode(assemble("r0 = 2; exit"))).fd
    assert refused(host.bpf.map_update_elem, array, bytes(4), plain.to_bytes(4, "little")) == "EINVAL"


def btf_fd(host: Any, prog: Any) -> int:
    prog.btf_fd_obj.get()
    return host.fds.install(prog.btf_fd_obj)


# ---- XDP ------------------------------------------------------------------------------------------------------------


def test_an_old_program_without_the_flag_einval(host: Any, refused: Any) -> None:
    code = encode(assemble("r0 = 2; exit"))
    progs = [host.bpf.prog_load(P.XDP, code).fd for _ in range(2)]
    link = host.bpf.link_create(progs[0], 1, A.XDP)
    assert refused(host.bpf.link_update, link, progs[1], old_prog_fd=progs[0]) == "EINVAL"
    assert refused(host.bpf.link_update, link, progs[1], old_prog_fd=progs[1], flags=4) == "EPERM"
    host.bpf.link_update(link, progs[1], old_prog_fd=progs[0], flags=4)
