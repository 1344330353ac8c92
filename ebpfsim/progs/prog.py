"""A loaded program, as the simulated kernel holds it (``struct bpf_prog`` and ``bpf_prog_aux``)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ebpfsim.cpu import Cpu
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import AttachType, ProgType

__all__ = ["Prog", "ProgStats", "Subprog"]


@dataclass(frozen=True, slots=True)
class Subprog:
    """One function of a program: slots ``start`` to ``end`` (not included) of the rewritten instructions."""

    start: int
    end: int
    name: str
    stack_depth: int


@dataclass(slots=True)
class ProgStats:
    """What BPF_OBJ_GET_INFO_BY_FD reports of runs; advances only while run statistics are enabled."""

    run_cnt: int = 0
    run_time_ns: int = 0
    recursion_misses: int = 0


@dataclass(eq=False)
class Prog(KernelObject):
    """A verified program.

    ``insns`` are the rewritten slots: LD_IMM64 hold simulated addresses, helper calls keep the helper's number, calls
    of subprograms and LD_IMM64 of callbacks (BPF_PSEUDO_FUNC) their relative slot; the engine loads its ``func_addr``.
    ``image_addr`` is set before the engine compiles. ``run(ctx, cpu)`` executes the program on a CPU with the address
    of its context in R1 and returns R0 (u32, as the kernel reads it).
    """

    name: str
    type: ProgType
    expected_attach_type: AttachType
    insns: tuple[Insn, ...]
    subprogs: tuple[Subprog, ...]
    maps: tuple[Map, ...]
    gpl_compatible: bool = True
    tag: bytes = b""
    prog_flags: int = 0
    verified_insns: int = 0
    load_time_ns: int = 0
    image_addr: int = 0
    btf_fd_obj: object = None
    func_info: bytes = b""
    line_info: bytes = b""
    changes_pkt_data: bool = False
    enforce_expected_attach_type: bool = False
    stats: ProgStats = field(default_factory=ProgStats)
    run: Callable[[int, Cpu], int] = field(default=None, repr=False)  # type: ignore[assignment]
    # what the engine made of the instructions; tail calls go from image to image
    image: object = field(default=None, repr=False)
    # the ways into its machine code
    entries: object = field(default=None, repr=False)
    released: Callable[["Prog"], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        KernelObject.__init__(self)

    def __hash__(self) -> int:
        return object.__hash__(self)

    def func_addr(self, insn_idx: int) -> int:
        """Return the address that a pointer to the function starting at that slot holds."""
        return self.image_addr + insn_idx * 8

    def on_release(self) -> None:
        """Let go of the maps."""
        for map_ in self.maps:
            map_.put()
        if self.released is not None:
            self.released(self)
