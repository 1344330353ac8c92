"""Facts about trampolines and programs on them, observed on Linux 6.12; a live kernel is not asked (nothing is attached
to its functions)."""

from pathlib import Path

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

OBJECT = Path(__file__).resolve().parents[1] / "data" / "trampolines" / "targets.bpf.o"
TEST1 = "bpf_fentry_test1"


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def load(host):
    def load(kind: A, code: str = "r0 = 0; exit", function: str = TEST1, **attributes) -> int:
        prog_type = P.LSM if kind == A.LSM_MAC else P.TRACING
        btf_id = vmlinux().find(function, Kind.FUNC) or 0
        attributes = {"expected_attach_type": kind, "attach_btf_id": btf_id} | attributes
        return host.bpf.prog_load(prog_type, encode(assemble(code)), **attributes).fd

    return load


@pytest.fixture
def attach(host, load):
    """Load and attach a program; return the descriptors of the link and of the program."""

    def attach(kind: A, code: str = "r0 = 0; exit", function: str = TEST1, cookie: int = 0, **attributes):
        fd = load(kind, code, function, **attributes)
        return host.bpf.link_create(fd, 0, kind, cookie=cookie), fd

    return attach


@pytest.fixture
def order(host):
    """Return the names of the programs that ran since the last call, in order."""

    def order() -> str:
        runs, host.recorder.runs[:] = [run.prog for run in host.recorder.runs], []
        return " ".join(runs)

    return order


@pytest.fixture
def result(host, attach):
    """Attach a program that stores R0 into a map at its end; return what it stored when its function was called."""

    def result(kind: A, code: str, function: str = TEST1, cookie: int = 0) -> int:
        map_fd = host.bpf.map_create(2, 4, 8, 1)
        text = f"""
            r6 = r1; {code}
            r7 = r0; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]; call bpf_map_lookup_elem
            if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
        """
        link, fd = attach(kind, text, function, cookie)
        host.bpf.prog_test_run(fd)
        host.bpf.close(link)
        return int.from_bytes(host.bpf.map_lookup_elem(map_fd, bytes(4)), "little")

    return result


def test_order_each_kind_lifo_and_another_kind_moves_nothing(host, attach, order) -> None:
    for name, kind in zip("xaybcz", "xexeex", strict=True):
        attach(A.TRACE_FENTRY if kind == "e" else A.TRACE_FEXIT, name=name)
    host.functions.bpf_fentry_test1(host.cpus[0], 1)
    assert order() == "c b a z y x"


def test_fmod_ret_lifo_first_non_zero_skips_the_function_and_fexit_sees_it(host, attach, order) -> None:
    name = "bpf_modify_return_test"
    links = [attach(A.MODIFY_RETURN, f"r0 = {ret}; exit", name, name=f"m{n}") for n, ret in ((1, 0), (2, -5), (3, -13))]
    attach(A.TRACE_FENTRY, function=name, name="e")
    attach(A.TRACE_FEXIT, function=name, name="x")
    room = host.mem.alloc(4)

    def call() -> int:
        return host.functions.bpf_modify_return_test(host.cpus[0], 1, room)

    assert (call(), order()) == (-13, "e m3 x")
    assert host.mem.load(room, 4) == 0
    host.bpf.close(links[2][0])
    host.bpf.close(links[1][0])
    assert (call(), order()) == (2, "e m1 x")


def test_fmod_ret_sees_the_previous_result_fexit_the_last_one(host, attach) -> None:
    name, map_fd = "bpf_modify_return_test", host.bpf.map_create(2, 4, 8, 1)
    store = f"""
        r7 = *(u64 *)(r1 + 16); *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]
        call bpf_map_lookup_elem; if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
    """
    attach(A.TRACE_FEXIT, store, name)
    attach(A.MODIFY_RETURN, "w0 = -13; exit", name)
    host.functions.bpf_modify_return_test(host.cpus[0], 1, 0)
    assert host.bpf.map_lookup_elem(map_fd, bytes(4)) == bytes.fromhex("f3ffffff00000000")


@pytest.mark.parametrize("kinds", ["e", "x", "ex", "emx"])
def test_38_programs_of_all_kinds_then_e2big(host, attach, refused, kinds) -> None:
    name = "bpf_modify_return_test" if "m" in kinds else TEST1
    types = {"e": A.TRACE_FENTRY, "x": A.TRACE_FEXIT, "m": A.MODIFY_RETURN}
    for number in range(38):
        attach(types[kinds[number % len(kinds)]], function=name)
    assert refused(attach, types[kinds[0]], function=name) == "E2BIG"
    image = next(iter(host.trampolines.by_key.values())).generation.image
    assert image.size <= 4096


def test_same_program_twice_ebusy_and_after_close_again(host, attach, load, refused) -> None:
    link, fd = attach(A.TRACE_FENTRY)
    assert refused(host.bpf.link_create, fd, 0, A.TRACE_FENTRY) == "EBUSY"
    assert refused(host.bpf.raw_tracepoint_open, "", fd) == "EBUSY"
    host.bpf.close(link)
    host.bpf.link_create(fd, 0, A.TRACE_FENTRY)


def test_raw_tracepoint_open_without_a_name_is_link_create(host, load, order) -> None:
    fd = load(A.TRACE_FENTRY, name="p")
    link = host.bpf.raw_tracepoint_open("", fd)
    host.functions.bpf_fentry_test1(host.cpus[0], 1)
    assert order() == "p"
    assert host.bpf.obj_get_info_by_fd(link).details["attach_type"] == A.TRACE_FENTRY


def test_link_update_einval_detach_eopnotsupp(host, attach, refused) -> None:
    link, fd = attach(A.TRACE_FENTRY)
    assert refused(host.bpf.link_update, link, fd) == "EINVAL"
    assert refused(host.bpf.link_detach, link) == "EOPNOTSUPP"


@pytest.mark.parametrize("kind", [A(0), A.TRACE_FEXIT, A.MODIFY_RETURN])
def test_link_create_with_another_attach_type_einval(host, load, refused, kind) -> None:
    assert refused(host.bpf.link_create, load(A.TRACE_FENTRY), 0, kind) == "EINVAL"


def test_test_run_calls_functions_and_ignores_input(host, attach, load, order) -> None:
    fd = load(A.TRACE_FENTRY, name="p")
    assert host.bpf.prog_test_run(fd).retval == 0
    assert order() == ""
    host.bpf.link_create(fd, 0, A.TRACE_FENTRY)
    ran = host.bpf.prog_test_run(fd, bytes(14), ctx_in=bytes(8), repeat=100, data_size_out=64)
    assert (ran.retval, ran.duration_ns, order()) == (0, 0, "p")


@pytest.mark.parametrize("attributes", [{"flags": 1}, {"cpu": 1}])
def test_test_run_flags_and_cpu_einval(host, load, refused, attributes) -> None:
    assert refused(host.bpf.prog_test_run, load(A.TRACE_FENTRY), **attributes) == "EINVAL"


def test_test_run_of_modify_return_131105_and_65570(host, attach, load) -> None:
    name = "bpf_modify_return_test"
    fd = load(A.MODIFY_RETURN, function=name)
    assert host.bpf.prog_test_run(fd).retval == 131105
    attach(A.MODIFY_RETURN, function=name)
    assert host.bpf.prog_test_run(fd).retval == 131105
    attach(A.MODIFY_RETURN, "r0 = 5; exit", name)
    assert host.bpf.prog_test_run(fd).retval == 65570


def test_test_run_of_tp_btf_efault(host, refused) -> None:
    btf_id = vmlinux().find("btf_trace_sys_enter", Kind.TYPEDEF)
    code = encode(assemble("r0 = 0; exit"))
    fd = host.bpf.prog_load(P.TRACING, code, expected_attach_type=A.TRACE_RAW_TP, attach_btf_id=btf_id).fd
    assert refused(host.bpf.prog_test_run, fd) == "EFAULT"


LAST_ARG = "r2 = 5; r3 = r10; r3 += -16; *(u64 *)(r10 - 16) = 7; call bpf_get_func_arg"
STACK = "r0 = *(u64 *)(r10 - 16)"
FACTS = [
    (A.TRACE_FENTRY, "r0 = *(u64 *)(r6 + 0)", TEST1, 1),
    (A.TRACE_FEXIT, "r0 = *(u64 *)(r6 + 8)", TEST1, 2),
    (A.TRACE_FENTRY, "r0 = *(u64 *)(r6 + 0)", "bpf_fentry_test6", 16),
    (A.TRACE_FENTRY, f"{LAST_ARG}; {STACK}", "bpf_fentry_test6", 21),
    (A.TRACE_FENTRY, "call bpf_get_func_arg_cnt", "bpf_fentry_test6", 6),
    (A.TRACE_FEXIT, "call bpf_get_func_arg_cnt", "bpf_fentry_test6", 6),
    (A.TRACE_FEXIT, "r0 = *(u64 *)(r6 + 48)", "bpf_fentry_test6", 111),
    # an argument behind the last one: EINVAL, and the value is left alone
    (A.TRACE_FENTRY, LAST_ARG, TEST1, (1 << 64) - 22),
    (A.TRACE_FENTRY, f"{LAST_ARG}; {STACK}", TEST1, 7),
    (A.TRACE_FENTRY, "r2 = -1; r3 = r10; r3 += -16; *(u64 *)(r10 - 16) = 7; call bpf_get_func_arg", TEST1, -22 + 2**64),
    (A.TRACE_FEXIT, "r2 = r10; r2 += -16; *(u64 *)(r10 - 16) = 7; call bpf_get_func_ret; " + STACK, TEST1, 2),
    # kernel/trace/bpf_trace.c: there is no result yet
    (A.TRACE_FENTRY, "r2 = r10; r2 += -16; *(u64 *)(r10 - 16) = 7; call bpf_get_func_ret", TEST1, (1 << 64) - 95),
]


@pytest.mark.parametrize(("kind", "code", "function", "value"), FACTS)
def test_arguments_and_results(result, kind, code, function, value) -> None:
    assert result(kind, code, function) == value


@pytest.mark.parametrize(("kind", "cookie"), [(A.TRACE_FENTRY, 0x1122334455667788), (A.TRACE_FEXIT, 99)])
def test_attach_cookies(result, kind, cookie) -> None:
    assert result(kind, "call bpf_get_attach_cookie", cookie=cookie) == cookie


@pytest.mark.parametrize("kind", [A.TRACE_FENTRY, A.TRACE_FEXIT])
def test_get_func_ip_is_the_symbol(host, result, kind) -> None:
    assert result(kind, "call bpf_get_func_ip") == host.functions.site(TEST1).address


def test_a_negative_int_has_an_upper_half_of_zero(host, attach, order) -> None:
    map_fd = host.bpf.map_create(2, 4, 8, 1)
    code = f"""
        r2 = 0; r3 = r10; r3 += -16; *(u64 *)(r10 - 16) = 0; call bpf_get_func_arg; r7 = *(u64 *)(r10 - 16)
        *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]; call bpf_map_lookup_elem
        if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
    """
    attach(A.TRACE_FENTRY, code)
    assert host.functions.bpf_fentry_test1(host.cpus[0], -100) == -99
    assert host.bpf.map_lookup_elem(map_fd, bytes(4)) == (0xFFFFFF9C).to_bytes(8, "little")


def test_info_of_a_link(host, attach) -> None:
    link, _ = attach(A.TRACE_FENTRY)
    details = host.bpf.obj_get_info_by_fd(link).details
    expected = {"type": 2, "attach_type": 24, "target_obj_id": 1, "target_btf_id": vmlinux().find(TEST1, Kind.FUNC)}
    assert {name: details[name] for name in expected} == expected


@pytest.mark.parametrize(
    "name", ["__schedule", "exc_page_fault", "do_syscall_64", "trace_call_bpf", "__bpf_prog_enter"]
)
def test_no_ftrace_site_ebusy(attach, refused, name) -> None:
    if vmlinux().find(name, Kind.FUNC) is None:
        pytest.skip(f"6.18 has no {name} in its BTF")
    assert refused(attach, A.TRACE_FENTRY, function=name) == "EBUSY"


def test_sleepable_on_bpf_fentry_test1_runs(host, attach, order) -> None:
    attach(A.TRACE_FENTRY, name="s", prog_flags=0x10)
    host.functions.bpf_fentry_test1(host.cpus[0], 1)
    assert order() == "s"


def test_non_zero_result_of_fentry_is_refused(load) -> None:
    with pytest.raises(VerifierError) as error:
        load(A.TRACE_FENTRY, "r0 = 5; exit")
    assert "At program exit the register R0 has smin=5 smax=5 should have been in [0, 0]" in error.value.log


def test_non_gpl_fentry_loads_and_runs(host, attach, order) -> None:
    attach(A.TRACE_FENTRY, name="p", license="Proprietary")
    host.functions.bpf_fentry_test1(host.cpus[0], 1)
    assert order() == "p"


# ---- functions of programs ------------------------------------------------------------------------------------------


@pytest.fixture
def target(host):
    obj = open_object(OBJECT, bpf=host.bpf)
    obj.load(only=["xmain", "tmain"])
    return obj


@pytest.fixture
def load_for(host, target):
    """Load a program for a function of the target; its descriptor, and the object that it is from."""

    def load_for(name: str, of: str = "xmain"):
        obj = open_object(OBJECT, bpf=host.bpf)
        obj.programs[name].attach_prog_fd = target.programs[of].fd
        obj.load(only=[name])
        return obj.programs[name].fd, obj

    return load_for


@pytest.fixture
def attach_for(host, load_for):
    def attach_for(name: str, of: str = "xmain"):
        fd, obj = load_for(name, of)
        return host.bpf.link_create(fd, 0, host.fds.lookup(fd).expected_attach_type), obj

    return attach_for


@pytest.fixture
def verdict(host, target):
    return lambda name="xmain": host.bpf.prog_test_run(target.programs[name].fd, bytes(64)).retval


SEEN = [
    ("fentry_xmain", "xmain", {0: 64, 1: 1}),
    ("fexit_xmain", "xmain", {2: 42, 3: 42}),
    ("fentry_sub_s", "xmain", {4: 3, 5: 4}),
    ("fexit_sub_s", "xmain", {6: 34}),
    ("fexit_sub_g", "xmain", {7: 7}),
    # BTF that is not what the function does: five numbers, then the result
    ("fexit_sub_p", "xmain", {8: 5, 9: 2}),
    ("fentry_tmain", "tmain", {10: 64}),
    ("fexit_tmain", "tmain", {11: 2}),
]


@pytest.mark.parametrize(("name", "of", "seen"), SEEN)
def test_fentry_and_fexit_of_xdp_tc_and_their_functions(attach_for, verdict, host, name, of, seen) -> None:
    before = verdict(of)
    link, obj = attach_for(name, of)
    assert verdict(of) == before == (42 if of == "xmain" else 2)
    values = obj.bss["seen"]
    assert {at: values[at] for at in seen} == seen
    host.bpf.close(link)
    obj.bss["seen"] = [0] * 16
    assert verdict(of) == before
    assert not any(obj.bss["seen"])


def test_a_second_link_of_a_program_for_a_program_einval(host, load_for, refused) -> None:
    fd, _ = load_for("fentry_xmain")
    link = host.bpf.link_create(fd, 0, A.TRACE_FENTRY)
    assert refused(host.bpf.link_create, fd, 0, A.TRACE_FENTRY) == "EINVAL"
    host.bpf.close(link)
    assert refused(host.bpf.link_create, fd, 0, A.TRACE_FENTRY) == "EINVAL"


def test_info_of_a_link_to_a_program(host, attach_for, target) -> None:
    link, _ = attach_for("fentry_xmain")
    details = host.bpf.obj_get_info_by_fd(link).details
    assert details["target_obj_id"] == target.programs["xmain"].id


def test_freplace_of_a_function_and_of_main_and_back_at_once(host, attach_for, verdict) -> None:
    for name, value in (("rep", 135), ("rep_main", 55)):
        link, _ = attach_for(name)
        assert verdict() == value
        host.bpf.close(link)
        assert verdict() == 42


def test_second_freplace_and_fentry_with_freplace_ebusy(host, load_for, attach_for, refused) -> None:
    rep, _ = load_for("rep")
    traced, _ = attach_for("fexit_sub_g")
    assert refused(host.bpf.link_create, rep, 0, 0) == "EBUSY"
    host.bpf.close(traced)
    link = host.bpf.link_create(rep, 0, 0)
    other, _ = load_for("rep_other")
    assert refused(host.bpf.link_create, other, 0, 0) == "EBUSY"
    tracer, _ = load_for("fexit_sub_g")
    assert refused(host.bpf.link_create, tracer, 0, A.TRACE_FEXIT) == "EBUSY"
    host.bpf.close(link)
    host.bpf.link_create(tracer, 0, A.TRACE_FEXIT)


def test_freplace_again_needs_its_target_named(host, load_for, target, verdict, refused) -> None:
    fd, _ = load_for("rep")
    host.bpf.close(host.bpf.link_create(fd, 0, 0))
    assert refused(host.bpf.link_create, fd, 0, 0) == "EINVAL"
    xmain = target.programs["xmain"].fd
    sub_g = next(sub.type_id for sub in host.fds.lookup(xmain).subprogs if sub.name == "sub_g")
    assert refused(host.bpf.link_create, fd, xmain, 0) == "EINVAL"
    host.bpf.link_create(fd, xmain, 0, target_btf_id=sub_g)
    assert verdict() == 135


def test_references_return_to_where_they_were(host, attach_for, target) -> None:
    xmain = host.fds.lookup(target.programs["xmain"].fd)
    refs = xmain.refs
    for name in ("rep", "fentry_xmain", "fexit_sub_s"):
        link, obj = attach_for(name)
        host.bpf.close(link)
        obj.close()
    assert xmain.refs == refs
    assert not host.trampolines.by_key


def test_test_run_of_ext_enotsupp(host, load_for, refused) -> None:
    fd, _ = load_for("rep")
    assert refused(host.bpf.prog_test_run, fd, bytes(64)) == "ENOTSUPP"
