"""What a user may set about a simulated kernel."""

from dataclasses import dataclass, field

__all__ = ["INSN_BUDGET", "KernelConfig"]

INSN_BUDGET = 50_000_000


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """Settings of one simulated kernel (``kernel:`` in a scenario).

    ``mitigations`` is ``auto`` (retpolines, as the kernel chooses on the profile's CPU) or ``off``; ``costs`` names the
    cost profile; ``stats`` is the sysctl kernel.bpf_stats_enabled; ``insn_budget`` is how many instructions one
    activation of a program may execute before it counts as a runaway. ``engine`` is ``interp``, ``jit`` or ``auto``,
    the JIT where this machine can run its code, else the interpreter; what programs do and cost is the same. ``debug``
    checks every access of programs and helpers: it has to stay in one live object (``ebpfsim.memory.objects``).
    """

    cpus: int = 1
    mitigations: str = "auto"
    costs: str = "skx3"
    stats: bool = False
    debug: bool = False
    insn_budget: int = INSN_BUDGET
    engine: str = "auto"
    sysctl: dict[str, int | str] = field(default_factory=dict)
