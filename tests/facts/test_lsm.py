"""Facts about programs on security hooks, observed on Linux 6.12; a live kernel is not asked."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

HOOK, FUNCTION = "bpf_lsm_task_getpgid", "security_task_getpgid"


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def attach(host):
    def attach(code: str = "r0 = 0; exit", function: str = HOOK, kind: A = A.LSM_MAC, **attributes) -> int:
        prog_type = P.LSM if kind == A.LSM_MAC else P.TRACING
        btf_id = vmlinux().find(function, Kind.FUNC)
        attributes = {"expected_attach_type": kind, "attach_btf_id": btf_id} | attributes
        fd = host.bpf.prog_load(prog_type, encode(assemble(code)), **attributes).fd
        return host.bpf.link_create(fd, 0, kind)

    return attach


@pytest.fixture
def call(host):
    """Call the security function; return what it returned and the names of the programs that ran."""

    def call(function: str = FUNCTION, *args: int):
        host.recorder.runs.clear()
        result = getattr(host.functions, function)(host.cpus[0], *(args or (0,)))
        return result, " ".join(run.prog for run in host.recorder.runs)

    return call


def test_lifo_and_the_first_non_zero_ends_the_chain(host, attach, call) -> None:
    links = {name: attach(f"r0 = {ret}; exit", name=name) for name, ret in (("A", 0), ("B", -5), ("C", -13), ("D", 0))}
    assert call() == (-13, "D C")
    host.bpf.close(links["C"])
    assert call() == (-5, "D B")
    host.bpf.close(links["B"])
    assert call() == (0, "D A")


def test_the_ret_argument_is_the_previous_programs_value(attach, call) -> None:
    # ctx[nargs]: 0 for every program that runs, as another value ends the chain
    attach("r0 = *(u64 *)(r1 + 8); if r0 == 0 goto zero; r0 = -1; exit; zero: r0 = 0; exit", name="A")
    attach(name="B")
    assert call() == (0, "B A")


def test_fentry_before_fexit_after_and_it_sees_the_final_value(host, attach, call) -> None:
    attach("r0 = -13; exit", name="L")
    attach(function=HOOK, kind=A.TRACE_FENTRY, name="e")
    attach(function=HOOK, kind=A.TRACE_FEXIT, name="x")
    assert call() == (-13, "e L x")


def test_fmod_ret_on_the_outer_function_comes_first(host, attach, call) -> None:
    attach("r0 = -1; exit", name="lsm")
    link = attach("r0 = -5; exit", FUNCTION, A.MODIFY_RETURN, name="outer")
    assert call() == (-5, "outer")
    host.bpf.close(link)
    attach("r0 = 0; exit", FUNCTION, A.MODIFY_RETURN, name="outer")
    assert call() == (-1, "outer lsm")


@pytest.mark.parametrize("function", ["security_file_open", "security_bprm_check", "security_socket_listen"])
def test_an_errno_reaches_the_caller_unchanged(host, attach, call, function) -> None:
    hook = {"security_bprm_check": "bpf_lsm_bprm_check_security"}.get(function, function.replace("security", "bpf_lsm"))
    attach("r0 = -71; exit", hook)
    words = 2 if "socket" in function else 1
    assert call(function, *[0] * words)[0] == -71


def test_void_hooks_run_programs_and_return_nothing(host, attach, call) -> None:
    attach("r0 = 7; exit", "bpf_lsm_task_free", name="v")
    assert call("security_task_free")[1] == "v"


def test_sleepable_hooks(attach, call) -> None:
    attach(function="bpf_lsm_file_open", name="s", prog_flags=0x10)
    assert call("security_file_open")[1] == "s"


def test_same_program_ebusy_and_38_then_e2big(host, attach, refused) -> None:
    link = attach()
    prog = host.bpf.prog_get_fd_by_id(host.bpf.obj_get_info_by_fd(link).details["prog_id"])
    assert refused(host.bpf.link_create, prog, 0, A.LSM_MAC) == "EBUSY"
    for _ in range(37):
        attach()
    assert refused(attach) == "E2BIG"


def test_info_of_a_link_type_2_attach_type_27(host, attach) -> None:
    details = host.bpf.obj_get_info_by_fd(attach()).details
    assert (details["type"], details["attach_type"], details["target_obj_id"]) == (2, 27, 1)


def test_test_run_of_lsm_enotsupp(host, attach, refused) -> None:
    link = attach()
    prog = host.bpf.prog_get_fd_by_id(host.bpf.obj_get_info_by_fd(link).details["prog_id"])
    assert refused(host.bpf.prog_test_run, prog) == "ENOTSUPP"
