"""Random attachments to one function: the order of runs is a plain model's, images are freed once."""

import importlib.util
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from hooks.text import GRACE_NS

_CONFTEST = Path(__file__).resolve().parents[1] / "unit" / "ebpfsim" / "conftest.py"
_spec = importlib.util.spec_from_file_location("kernels_of_order", _CONFTEST)
assert _spec
assert _spec.loader
_kernels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_kernels)
FUNCTION = "bpf_modify_return_test"
KINDS = {"e": A.TRACE_FENTRY, "m": A.MODIFY_RETURN, "x": A.TRACE_FEXIT, "k": A(0), "r": A(0)}
# in the order in which kinds run, and whether the last one that came runs first
SEQUENCE = (("k", True), ("e", True), ("m", True), ("x", True), ("r", False))


def _load(kernel, kind: str, number: int) -> int:
    attributes = {}
    if kind in "emx":
        attributes = {"expected_attach_type": KINDS[kind], "attach_btf_id": vmlinux().find(FUNCTION, Kind.FUNC)}
    prog_type = P.TRACING if attributes else P.KPROBE
    return kernel.bpf.prog_load(prog_type, encode(assemble("r0 = 0; exit")), name=f"{kind}{number}", **attributes).fd


def _attach(kernel, kind: str, fd: int) -> int:
    if kind in "emx":
        return kernel.bpf.link_create(fd, 0, KINDS[kind])
    event = kernel.kprobes.open(FUNCTION, is_return=kind == "r")
    event_fd = kernel.fds.install(event)
    link = kernel.bpf.link_create(fd, event_fd, A.PERF_EVENT)
    kernel.bpf.close(event_fd)
    return link


@given(st.lists(st.tuples(st.integers(0, 14), st.booleans()), min_size=10, max_size=60))
@settings(max_examples=12)
def test_order_counts_and_images(steps) -> None:
    kernel = _kernels.make_kernel_of_two_cpus()
    kinds = [list(KINDS)[number % 5] for number in range(15)]
    progs = [_load(kernel, kind, number) for number, kind in enumerate(kinds)]
    refs = [kernel.fds.lookup(fd).refs for fd in progs]
    attached: dict[int, int] = {}
    for number, fires in steps:
        if number in attached:
            kernel.bpf.close(attached.pop(number))
        else:
            attached[number] = _attach(kernel, kinds[number], progs[number])
        kernel.clock.now_ns += GRACE_NS // 3
        if fires:
            kernel.recorder.runs.clear()
            room = kernel.mem.alloc(4)
            assert kernel.functions.bpf_modify_return_test(kernel.cpus[0], 1, room) == 2
            kernel.mem.free(room)
            order = []
            for kind, lifo in SEQUENCE:
                names = [n for n in attached if kinds[n] == kind]
                order += reversed(names) if lifo else names
            assert [run.prog for run in kernel.recorder.runs] == [f"{kinds[n]}{n}" for n in order]
    for link in attached.values():
        kernel.bpf.close(link)
    kernel.clock.now_ns += GRACE_NS
    kernel.text.reclaim()
    assert kernel.text.freed == kernel.text.allocated
    assert (kernel.text.nr_retired, kernel.text.images) == (0, {})
    assert [kernel.fds.lookup(fd).refs for fd in progs] == refs
    assert not kernel.trampolines.by_key
