"""The audit log of a host (kernel/audit.c, v6.18), as far as BPF writes to it: loads and unloads of programs
(``bpf_audit_prog`` of kernel/bpf/syscall.c)."""

from dataclasses import dataclass

from ebpfsim.clock import Clock

__all__ = ["AUDIT_BPF", "AuditLog", "AuditRecord"]

AUDIT_BPF = 1334  # include/uapi/linux/audit.h


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record; ``str`` gives the line that the kernel's log shows."""

    type: int
    time_ns: int
    serial: int
    text: str

    def __str__(self) -> str:
        seconds, rest = divmod(self.time_ns, 1_000_000_000)
        return f"audit: type={self.type} audit({seconds}.{rest // 1_000_000:03d}:{self.serial}): {self.text}"


class AuditLog:
    """Records in the order in which they were made; serial numbers start at 1."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.records: list[AuditRecord] = []

    def prog_loaded(self, prog_id: int) -> None:
        """Note that a program was loaded."""
        self._add(f"prog-id={prog_id} op=LOAD")

    def prog_unloaded(self, prog_id: int) -> None:
        """Note that a program is gone."""
        self._add(f"prog-id={prog_id} op=UNLOAD")

    def _add(self, text: str) -> None:
        self.records.append(AuditRecord(AUDIT_BPF, self._clock.now_ns, len(self.records) + 1, text))
