"""Facts about kprobes, observed on Linux 6.12; a live kernel is not asked."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

TEST1 = "bpf_fentry_test1"
MULTI, SESSION = A.TRACE_KPROBE_MULTI, A.TRACE_KPROBE_SESSION


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def load(host):
    def load(name: str = "", code: str = "r0 = 0; exit", kind: int = 0, **attributes) -> int:
        return host.bpf.prog_load(
            P.KPROBE, encode(assemble(code)), name=name, expected_attach_type=kind, **attributes
        ).fd

    return load


@pytest.fixture
def probe(host, load):
    """Attach a program to a new event."""

    def probe(name: str = "", code: str = "r0 = 0; exit", *, is_return: bool = False, cookie: int = 0) -> int:
        event = host.fds.install(host.kprobes.open(TEST1, is_return=is_return))
        return host.bpf.link_create(load(name, code), event, A.PERF_EVENT, bpf_cookie=cookie)

    return probe


@pytest.fixture
def multi(host, load):
    def multi(name: str = "", code: str = "r0 = 0; exit", kind: A = MULTI, syms=(TEST1,), **opts) -> int:
        return host.bpf.link_create(load(name, code, kind), 0, kind, syms=list(syms), **opts)

    return multi


@pytest.fixture
def trace(host):
    def trace(name: str, kind: A) -> None:
        btf_id = vmlinux().find(TEST1, Kind.FUNC)
        code = encode(assemble("r0 = 0; exit"))
        fd = host.bpf.prog_load(P.TRACING, code, name=name, expected_attach_type=kind, attach_btf_id=btf_id).fd
        host.bpf.link_create(fd, 0, kind)

    return trace


@pytest.fixture
def order(host):
    """Call the function; return the names of the programs that ran, and ``-`` where its body did."""

    def order() -> str:
        site = host.functions.site(TEST1)
        body, names = site._function, []

        def marked(cpu, a):
            names.append(len(host.recorder.runs))
            return body(cpu, a)

        site._function = marked
        site._fill()
        try:
            host.recorder.runs.clear()
            assert host.functions.bpf_fentry_test1(host.cpus[0], 1) == 2
        finally:
            site._function = body
            site._fill()
        runs = [run.prog for run in host.recorder.runs]
        runs.insert(names[0], "-")
        return " ".join(runs)

    return order


def test_kprobes_lifo_kretprobes_fifo(probe, order) -> None:
    for name, is_return in (("a", False), ("b", False), ("r", True), ("s", True)):
        probe(name, is_return=is_return)
    assert order() == "b a - r s"


@pytest.mark.parametrize("traced_first", [True, False])
def test_with_fentry_and_fexit(probe, trace, order, traced_first) -> None:
    if traced_first:
        trace("F", A.TRACE_FENTRY)
        trace("X", A.TRACE_FEXIT)
    for name, is_return in (("a", False), ("b", False), ("r", True), ("s", True)):
        probe(name, is_return=is_return)
    if not traced_first:
        trace("F", A.TRACE_FENTRY)
        trace("X", A.TRACE_FEXIT)
    assert order() == "b a F - X r s"


def test_the_whole_order(probe, multi, trace, order) -> None:
    for name, is_return in (("a", False), ("b", False), ("r", True), ("s", True)):
        probe(name, is_return=is_return)
    trace("F", A.TRACE_FENTRY)
    trace("X", A.TRACE_FEXIT)
    multi("m")
    multi("n", kprobe_multi_flags=1)
    multi("S", kind=SESSION)
    multi("o")
    # "o S m b a F FUNC X r s n S", of which a was attached before b
    assert order() == "o S m b a F - X r s n S"


def test_a_session_whose_entry_returns_1_has_no_exit(multi, order) -> None:
    multi("S", "r0 = 1; exit", SESSION)
    assert order() == "S -"


@pytest.mark.parametrize("value", [0, 1, 2, -1])
def test_results_of_kprobes_mean_nothing(probe, order, value) -> None:
    probe("a", f"r0 = {value}; exit")
    assert order() == "a -"


STORE = """
    r7 = r0; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]; call bpf_map_lookup_elem
    if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
"""
# offsets in struct pt_regs: ax 80, di 112, orig_ax 120, ip 128, cs 136, flags 144
REGISTERS = [
    ("kprobe", "r0 = *(u64 *)(r1 + 112)", 41, False),
    ("kprobe", "r0 = *(u64 *)(r1 + 120)", 0, False),
    ("kprobe", "r0 = *(u64 *)(r1 + 136)", 0x10, False),
    ("kprobe", "r0 = *(u64 *)(r1 + 144)", 0x246, False),
    ("kprobe", "r0 = *(u64 *)(r1 + 128)", 1, True),
    ("multi", "r0 = *(u64 *)(r1 + 128)", 5, True),
    ("kretprobe", "r0 = *(u64 *)(r1 + 80)", 42, False),
    ("kretprobe", "r0 = *(u64 *)(r1 + 120)", (1 << 64) - 1, False),
    *((kind, "call bpf_get_func_ip", 0, True) for kind in ("kprobe", "kretprobe", "multi", "multi-ret")),
    *((kind, "call bpf_get_attach_cookie", 77, False) for kind in ("kprobe", "kretprobe", "multi", "multi-ret")),
]


@pytest.mark.parametrize(("kind", "code", "value", "is_relative"), REGISTERS)
def test_registers_addresses_and_cookies(host, probe, multi, kind, code, value, is_relative) -> None:
    map_fd = host.bpf.map_create(2, 4, 8, 1)
    text = code + "\n" + STORE.format(map_fd=map_fd)
    if "multi" in kind:
        multi("p", text, cookies=[77], kprobe_multi_flags=int(kind == "multi-ret"))
    else:
        probe("p", text, is_return=kind == "kretprobe", cookie=77)
    assert host.functions.bpf_fentry_test1(host.cpus[0], 41) == 42
    found = int.from_bytes(host.bpf.map_lookup_elem(map_fd, bytes(4)), "little")
    assert found == value + (host.functions.site(TEST1).address if is_relative else 0)


def test_unknown_symbols(host, multi, refused) -> None:
    assert refused(host.kprobes.open, "no_such_function") == "ENOENT"
    assert refused(multi, syms=["no_such_function"]) == "ESRCH"


@pytest.mark.parametrize("name", ["__schedule", "exc_page_fault", "memcpy", "do_syscall_64", "trace_call_bpf"])
def test_no_ftrace_site(host, multi, refused, name) -> None:
    if vmlinux().find(name, Kind.FUNC) is None:
        pytest.skip(f"6.18 has no {name} in its BTF")
    assert refused(host.kprobes.open, name) == "EINVAL"
    assert refused(multi, syms=[name]) == "ESRCH"


def test_multi_refusals(host, load, multi, refused) -> None:
    assert refused(multi, syms=[TEST1, TEST1]) == "ESRCH"
    assert refused(multi, syms=[]) == "EINVAL"
    assert refused(multi, kprobe_multi_flags=2) == "EINVAL"
    assert refused(host.bpf.link_create, load(), 0, MULTI, syms=[TEST1]) == "EINVAL"
    event = host.fds.install(host.kprobes.open(TEST1))
    assert refused(host.bpf.link_create, load(kind=MULTI), event, A.PERF_EVENT) == "EINVAL"


def test_one_program_an_event_eexist(host, load, refused) -> None:
    event = host.fds.install(host.kprobes.open(TEST1))
    fd = load()
    host.bpf.link_create(fd, event, A.PERF_EVENT)
    assert refused(host.bpf.link_create, fd, event, A.PERF_EVENT) == "EEXIST"
    assert refused(host.bpf.link_create, load(), event, A.PERF_EVENT) == "EEXIST"


def test_many_events_on_one_function(probe, order) -> None:
    for number in range(70):
        probe(f"p{number}")
    assert order() == " ".join(f"p{number}" for number in reversed(range(70))) + " -"


def test_sleepable_program_einval(host, load, refused) -> None:
    event = host.fds.install(host.kprobes.open(TEST1))
    assert refused(host.bpf.link_create, load(prog_flags=0x10), event, A.PERF_EVENT) == "EINVAL"


def test_while_another_one_is_active_programs_are_skipped_and_counted(host, probe, multi, trace, order) -> None:
    # as a map update of user space does (bpf_disable_instrumentation): kprobe and multi miss, fentry runs
    links = [probe("k"), multi("m")]
    trace("F", A.TRACE_FENTRY)
    host.cpus[0].scratch["bpf_prog_active"] = 1
    assert order() == "F -"
    assert [host.fds.lookup(link).prog.stats.recursion_misses for link in links] == [1, 1]


def test_a_probe_inside_a_probe_is_missed_by_the_event(host, probe, order) -> None:
    link = host.fds.lookup(probe("k"))
    host.cpus[0].scratch["current_kprobe"] = 1
    assert order() == "-"
    assert (link.event.missed, link.prog.stats.recursion_misses) == (1, 0)
    assert link.info()["missed"] == 1


def test_detaching_leaves_the_function_alone(host, probe, multi, order) -> None:
    for link in (probe("k"), probe("r", is_return=True), multi("m")):
        host.bpf.close(link)
    assert order() == "-"
    assert host.functions.bpf_fentry_test1.__name__ == TEST1


def test_info_of_a_kprobe_link_type_3_and_4(host, probe) -> None:
    for is_return, kind in ((False, 3), (True, 4)):
        info = host.fds.lookup(probe(is_return=is_return, cookie=9)).info()
        assert (info["perf_event_type"], info["func_name"], info["cookie"]) == (kind, TEST1, 9)
