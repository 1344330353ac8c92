"""Probes: registers, links and their references. What Linux answers is in tests/facts/test_kprobes.py."""

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InputError, KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType


@pytest.fixture
def kernel():
    return Simulation(seed=1).host("a").kernel


def test_the_seventh_argument_is_on_the_stack(kernel) -> None:
    # PT_REGS_SP: the return address, then the argument
    map_fd = kernel.bpf.map_create(2, 4, 8, 1)
    text = f"""
        r3 = *(u64 *)(r1 + 152); r3 += 8; r1 = r10; r1 += -16; r2 = 8; call bpf_probe_read_kernel
        *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]; call bpf_map_lookup_elem
        if r0 == 0 goto out; r7 = *(u64 *)(r10 - 16); *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
    """
    fd = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble(text))).fd
    kernel.kprobes.attach(kernel.fds.lookup(fd), kernel.kprobes.open("bpf_modify_return_test2"))
    room = kernel.mem.alloc(8)
    kernel.functions.bpf_modify_return_test2(kernel.cpus[0], 1, room, 3, 4, 5, 6, 77)
    assert kernel.bpf.map_lookup_elem(map_fd, bytes(4)) == (77).to_bytes(8, "little")


def test_costs_and_notes(kernel) -> None:
    fd = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit")), name="p").fd
    event = kernel.fds.install(kernel.kprobes.open("bpf_fentry_test1", is_return=True))
    link = kernel.bpf.link_create(fd, event, AttachType.PERF_EVENT)
    cpu = kernel.cpus[0]
    before = cpu.elapsed_ps
    kernel.functions.bpf_fentry_test1(cpu, 1)
    assert cpu.elapsed_ps - before == kernel.costs.ps("kretprobe") + 2 * kernel.costs.ps("insn")
    kernel.bpf.close(link)
    texts = [note.text for note in kernel.recorder.notes]
    assert texts == [f"kretprobe {kind}: program 'p' (id 1), bpf_fentry_test1" for kind in ("attach", "detach")]


def test_a_link_keeps_its_event(kernel) -> None:
    fd = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit"))).fd
    event = kernel.kprobes.open("bpf_fentry_test1")
    event_fd = kernel.fds.install(event)
    link = kernel.bpf.link_create(fd, event_fd, AttachType.PERF_EVENT)
    kernel.bpf.close(event_fd)
    assert event.refs == 1
    kernel.bpf.close(link)
    assert event.refs == 0


def loaded(kernel, name: str, prog_type=ProgType.KPROBE, text: str = "r0 = 0; exit", **more):
    return kernel.fds.lookup(kernel.bpf.prog_load(prog_type, encode(assemble(text)), name=name, **more).fd)


def order(kernel) -> str:
    kernel.recorder.runs.clear()
    kernel.functions.bpf_fentry_test1(kernel.cpus[0], 1)
    return " ".join(run.prog for run in kernel.recorder.runs)


def test_probes_inside_come_behind_trampolines_in_the_order_of_the_code(kernel) -> None:
    links = {}
    for name, offset in (("far", 9), ("near", 5), ("entry", 0), ("near_too", 5)):
        event = kernel.kprobes.open("bpf_fentry_test1", offset)
        links[name] = kernel.kprobes.attach(loaded(kernel, name), event)
    number = vmlinux().find("bpf_fentry_test1", Kind.FUNC)
    for name, kind in (("fentry", AttachType.TRACE_FENTRY), ("fexit", AttachType.TRACE_FEXIT)):
        prog = loaded(kernel, name, ProgType.TRACING, expected_attach_type=kind, attach_btf_id=number)
        kernel.bpf.link_create(kernel.fds.install(prog), 0, kind)
    assert order(kernel) == "entry fentry near_too near far fexit"
    links["near"].put()
    links["far"].put()
    assert order(kernel) == "entry fentry near_too fexit"
    links["near_too"].put()
    links["entry"].put()
    assert order(kernel) == "fentry fexit"


def test_registers_and_info_of_a_probe_inside(kernel) -> None:
    seen = kernel.bpf.map_create(2, 4, 24, 1)
    text = f"""
        r6 = r1; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{seen}]; call bpf_map_lookup_elem
        if r0 == 0 goto out; r7 = r0; r1 = *(u64 *)(r6 + 128); *(u64 *)(r7 + 0) = r1
        r1 = *(u64 *)(r6 + 112); *(u64 *)(r7 + 8) = r1; r1 = r6; call bpf_get_func_ip; *(u64 *)(r7 + 16) = r0
        out: r0 = 0; exit
    """
    event = kernel.kprobes.open("bpf_fentry_test1", 5)
    link = kernel.kprobes.attach(loaded(kernel, "p", text=text), event)
    order(kernel)
    words = memoryview(kernel.bpf.map_lookup_elem(seen, bytes(4))).cast("Q")
    # behind the breakpoint; an argument; no entry, so no function (observed on 6.12)
    assert list(words) == [event.site.address + 6, 1, 0]
    info = link.info()
    assert (info["offset"], info["addr"]) == (5, event.site.address + 5)


def test_functions_of_objects_are_probed_inside() -> None:
    host = Simulation(seed=1).host("a")
    prog = host.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit"))).fd
    with host.attach_kprobe(prog, "ip_rcv+0x20") as link:
        host.udp_socket().sendto(b"x", "127.0.0.1", 9)
        host.sim.run()
        assert link.runs >= 1
    with pytest.raises(InputError, match=r"'ip_rcv\+x' is not FUNCTION\+OFFSET"):
        host.attach_kprobe(prog, "ip_rcv+x")


@pytest.mark.parametrize(
    ("offset", "is_return", "errno"), [(1, False, "EILSEQ"), (4, False, "EILSEQ"), (5, True, "EINVAL")]
)
def test_places_where_there_are_no_probes(kernel, offset, is_return, errno) -> None:
    with pytest.raises(KernelError, match=errno):
        kernel.kprobes.open("bpf_fentry_test1", offset, is_return=is_return)
