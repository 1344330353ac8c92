"""BPF_RAW_TRACEPOINT_OPEN without a name attaches what was loaded for a function or a tracepoint."""

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType


def test_links_by_what_programs_were_loaded_for() -> None:
    kernel, btf = Simulation(seed=1).host("a").kernel, vmlinux()
    for kind, target, expected in (
        (AttachType.TRACE_FENTRY, btf.find("bpf_fentry_test1", Kind.FUNC), LinkType.TRACING),
        (AttachType.TRACE_RAW_TP, btf.find("btf_trace_bpf_trigger_tp", Kind.TYPEDEF), LinkType.RAW_TRACEPOINT),
    ):
        fd = kernel.bpf.prog_load(
            ProgType.TRACING, encode(assemble("r0 = 0; exit")), expected_attach_type=kind, attach_btf_id=target
        ).fd
        link = kernel.fds.lookup(kernel.bpf.raw_tracepoint_open("", fd))
        assert link.type == expected
        assert link.attach_type == kind
