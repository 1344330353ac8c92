"""Facts about programs on tracepoints, observed on Linux 6.12; a live kernel is not asked."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import NotModelled, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def load(host):
    def load(code: str = "r0 = 0; exit", tp_btf: str = "", prog_type: P = P.RAW_TRACEPOINT, **attributes) -> int:
        if tp_btf:
            prog_type = P.TRACING
            btf_id = vmlinux().find(f"btf_trace_{tp_btf}", Kind.TYPEDEF)
            attributes |= {"expected_attach_type": A.TRACE_RAW_TP, "attach_btf_id": btf_id}
        return host.bpf.prog_load(prog_type, encode(assemble(code)), **attributes).fd

    return load


@pytest.fixture
def order(host):
    def order() -> str:
        host.functions.bpf_modify_return_test_tp(host.cpus[0], 7)
        runs, host.recorder.runs[:] = [run.prog for run in host.recorder.runs], []
        return " ".join(runs)

    return order


TP = "bpf_trigger_tp"


def test_raw_tp_and_tp_btf_run_in_the_order_in_which_they_came(host, load, order) -> None:
    host.bpf.raw_tracepoint_open(TP, load(name="b"))
    link = host.bpf.link_create(load(tp_btf=TP, name="c"), 0, A.TRACE_RAW_TP)
    host.bpf.raw_tracepoint_open(TP, load(name="e"))
    host.bpf.raw_tracepoint_open("", load(tp_btf=TP, name="f"))
    assert order() == "b c e f"
    host.bpf.close(link)
    assert order() == "b e f"


def test_names(host, load, refused) -> None:
    assert refused(host.bpf.raw_tracepoint_open, "no_such_tracepoint", load()) == "ENOENT"
    assert refused(host.bpf.raw_tracepoint_open, TP, load(tp_btf=TP)) == "EINVAL"
    assert refused(host.bpf.link_create, load(), 0, A.TRACE_RAW_TP) == "EINVAL"


def test_reading_past_the_arguments_einval_at_open(host, load, refused) -> None:
    fd = load("r0 = *(u64 *)(r1 + 8); exit")
    assert refused(host.bpf.raw_tracepoint_open, TP, fd) == "EINVAL"
    host.bpf.raw_tracepoint_open(TP, load("r0 = *(u64 *)(r1 + 0); exit"))


def test_loading_allows_twelve_words(load) -> None:
    load("r0 = *(u64 *)(r1 + 88); exit")
    with pytest.raises(VerifierError) as error:
        load("r0 = *(u64 *)(r1 + 96); exit")
    assert "invalid bpf_context access off=96 size=8" in error.value.log


def test_tp_btf_knows_how_many_arguments_there_are(load) -> None:
    with pytest.raises(VerifierError) as error:
        load("r0 = *(u64 *)(r1 + 16); r0 = 0; exit", tp_btf="sys_enter")
    assert "func 'sys_enter' doesn't have 3-th argument" in error.value.log


# tp_btf argument counts as observed
COUNTS = {
    "sys_enter": 2, "sys_exit": 2, "sched_switch": 4, "sched_process_exec": 3, "sched_wakeup": 1, "consume_skb": 2,
    "netif_receive_skb": 1, "tcp_probe": 2, "inet_sock_set_state": 3,
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_argument_counts(host, name: str, count: int) -> None:
    host.tracepoints.declare(name)
    assert host.tracepoints.get(name).num_args == count


@pytest.mark.parametrize("value", [0, 1, -1, 5])
def test_any_result_loads(load, value: int) -> None:
    load(f"r0 = {value}; exit")
    load(f"r0 = {value}; exit", tp_btf=TP)


def test_writable_programs_need_a_tracepoint_with_a_buffer(host, load, refused) -> None:
    code = "r2 = *(u64 *)(r1 + 0); *(u32 *)(r2 + 0) = 1; r0 = 0; exit"
    fd = load(code, prog_type=P.RAW_TRACEPOINT_WRITABLE)
    assert refused(host.bpf.raw_tracepoint_open, TP, fd) == "EINVAL"
    # one that does not write may be anywhere
    assert host.bpf.raw_tracepoint_open(TP, load(prog_type=P.RAW_TRACEPOINT_WRITABLE))


def test_info_has_the_name_and_its_length_with_the_nul(host, load) -> None:
    for link in (
        host.bpf.raw_tracepoint_open(TP, load()),
        host.bpf.link_create(load(tp_btf=TP), 0, A.TRACE_RAW_TP),
    ):
        details = host.bpf.obj_get_info_by_fd(link).details
        assert (details["type"], details["tp_name"], details["tp_name_len"]) == (1, TP, len(TP) + 1)


def test_arguments_and_cookies(host, load, order) -> None:
    map_fd = host.bpf.map_create(2, 4, 8, 1)
    store = f"""
        r6 = r1; call bpf_get_attach_cookie; r7 = r0; r8 = *(u64 *)(r6 + 0); r7 += r8
        *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]; call bpf_map_lookup_elem
        if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
    """
    host.bpf.raw_tracepoint_open(TP, load(store), cookie=100)
    order()
    assert host.bpf.map_lookup_elem(map_fd, bytes(4)) == (107).to_bytes(8, "little")


def test_a_tracepoint_that_nothing_calls_is_not_modelled(host, load) -> None:
    with pytest.raises(NotModelled, match="mm_page_alloc"):
        host.bpf.raw_tracepoint_open("mm_page_alloc", load())
