"""Per-CPU state: what runs there, how much simulated time it has used since the clock last moved, its BPF stack.

Work on a CPU happens at one instant of the clock and adds up its cost here, in picoseconds (costs are fractions of a
nanosecond); ``now_ns`` is the clock plus that cost. Whoever started the work (a NAPI poll, a task) then lets the clock
catch up by ``take_elapsed_ns``.
"""

from ebpfsim.clock import Clock
from ebpfsim.memory import Memory
from ebpfsim.memory.user import UserMemory

__all__ = ["REDIRECT_INFO_BYTES", "Cpu"]

# MAX_CALL_FRAMES is 8 (include/linux/bpf_verifier.h) with at most 512 bytes each; room for nested activations
STACK_BYTES = 64 * 1024
REDIRECT_INFO_BYTES = 64


class Cpu:
    """One simulated CPU.

    ``stack_base`` is the lowest address of its BPF stack, ``stack_top`` the lowest one in use: frames are taken below.
    ``redirect_info`` is where its ``struct bpf_redirect_info`` is, which machine code writes.
    ``current`` is the address of the ``task_struct`` that runs here, ``user`` the address space in use (``cr3``).
    """

    __slots__ = (
        "_clock", "current", "elapsed_ps", "mem", "number", "redirect_info", "scratch", "stack_base", "stack_top",
        "user",
    )  # fmt: skip

    def __init__(self, number: int, clock: Clock, mem: Memory) -> None:
        self.number = number
        self._clock = clock
        self.elapsed_ps = 0
        self.current = 0
        self.user: UserMemory | None = None
        self.stack_base = mem.alloc_guarded(STACK_BYTES)
        self.stack_top = self.stack_base + STACK_BYTES
        self.mem = mem
        self.redirect_info = mem.alloc(REDIRECT_INFO_BYTES, what="struct bpf_redirect_info")
        if mem.objects is not None:
            # the kernel's, no program's
            mem.objects.hide(self.redirect_info, "struct bpf_redirect_info")
        # per-CPU variables of subsystems, by name
        self.scratch: dict[str, object] = {}

    @property
    def now_ns(self) -> int:
        """The time on this CPU: the clock plus the cost of the work in progress."""
        return self._clock.now_ns + self.elapsed_ps // 1000

    def charge(self, cost_ps: int) -> None:
        """Add the cost of work done, in picoseconds."""
        self.elapsed_ps += cost_ps

    def take_elapsed_ns(self) -> int:
        """Return the whole nanoseconds charged so far and keep the rest."""
        elapsed_ns, self.elapsed_ps = divmod(self.elapsed_ps, 1000)
        return elapsed_ns
