"""The audit log (bpf_audit_prog of kernel/bpf/syscall.c, v6.18)."""

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


def test_programs_come_and_go(kernel) -> None:
    fds = [kernel.bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit"))).fd for _ in range(2)]
    for fd in fds:
        kernel.bpf.close(fd)
    texts = [record.text for record in kernel.audit.records]
    assert texts == ["prog-id=1 op=LOAD", "prog-id=2 op=LOAD", "prog-id=1 op=UNLOAD", "prog-id=2 op=UNLOAD"]
    assert {record.type for record in kernel.audit.records} == {1334}
    # as the kernel's log shows it, for instance: audit: type=1334 audit(1732186309.123:45): prog-id=12 op=LOAD
    assert str(kernel.audit.records[3]) == "audit: type=1334 audit(0.000:4): prog-id=2 op=UNLOAD"


def test_refused_programs_leave_no_record(kernel, refused) -> None:
    assert refused(kernel.bpf.prog_load, ProgType.XDP, encode(assemble("exit"))) == "EACCES"
    assert kernel.audit.records == []
