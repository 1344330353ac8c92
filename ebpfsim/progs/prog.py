"""A loaded program, as the simulated kernel holds it (``struct bpf_prog`` and ``bpf_prog_aux``)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import FuncProto
from ebpfsim.cpu import Cpu
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_SLEEPABLE

__all__ = ["AttachTarget", "Prog", "ProgStats", "Subprog"]


@dataclass(frozen=True, slots=True)
class Subprog:
    """One function of a program: slots ``start`` to ``end`` (not included) of the rewritten instructions.

    ``type_id`` and ``linkage`` are its BTF's, 0 where there is none; ``unreliable`` says that this is not what it does
    (``struct bpf_func_info_aux``).
    """

    start: int
    end: int
    name: str
    stack_depth: int
    type_id: int = 0
    linkage: int = 0
    unreliable: bool = False
    changes_pkt_data: bool = False
    might_sleep: bool = False


@dataclass(slots=True)
class AttachTarget:
    """A function that a program is for: its name, its prototype, and ``arg_info`` by offset in the context.

    It is one of the kernel, or ``subprog`` of the program ``prog``. ``trace``: the prototype begins with an argument
    that the program does not see. ``struct_ops`` names the structure of functions that ``name`` is a member of. ``id``
    is the type that was asked for. Without a prototype the arguments are five numbers.
    """

    btf: Btf
    id: int
    name: str
    proto: FuncProto | None
    trace: bool = False
    arg_info: dict[int, tuple[int, str]] = field(default_factory=dict)
    struct_ops: str = ""
    prog: "Prog | None" = None
    subprog: Subprog | None = None


@dataclass(slots=True)
class ProgStats:
    """What BPF_OBJ_GET_INFO_BY_FD reports of runs; advances only while run statistics are enabled."""

    run_cnt: int = 0
    run_time_ns: int = 0
    recursion_misses: int = 0


class Shown(Protocol):
    """A program as user space sees it: as Linux rewrites it for its own compiler."""

    @property
    def insns(self) -> tuple[Insn, ...]:
        """The slots; LD_IMM64 hold the addresses of maps."""
        ...

    @property
    def functions(self) -> tuple[tuple[Insn, ...], ...]:
        """Its functions, as they are when each gets its tag."""
        ...

    @property
    def extents(self) -> tuple[tuple[int, int], ...]:
        """Where the functions lie, from and to."""
        ...

    @property
    def func_info(self) -> bytes:
        """The records of functions, moved to where those are."""
        ...

    @property
    def line_info(self) -> bytes:
        """The records of lines, moved to where those are."""
        ...


@dataclass(eq=False)
class Prog(KernelObject):
    """A verified program.

    ``insns`` are the rewritten slots: LD_IMM64 hold simulated addresses, helper calls keep the helper's number, calls
    of subprograms and LD_IMM64 of callbacks (BPF_PSEUDO_FUNC) their relative slot; the engine loads its ``func_addr``.
    ``shown`` is the program as BPF_OBJ_GET_INFO_BY_FD shows it.
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
    shown: Shown | None = None
    changes_pkt_data: bool = False
    max_ctx_offset: int = 0
    # how far it reads keys and accesses values of maps that an iterator hands to it
    max_rdonly_access: int = 0
    max_rdwr_access: int = 0
    # and of the buffer that a tracepoint lets it write
    max_tp_access: int = 0
    enforce_expected_attach_type: bool = False
    # what it is for, where it is for one function (attach_btf_id); ``attach_tracing_prog`` when that traces in turn
    attach_target: AttachTarget | None = field(default=None, repr=False)
    attach_tracing_prog: bool = False
    # where its first link goes to unless that says otherwise: a program it keeps (dst_prog), the key of a trampoline
    # (dst_trampoline). That link takes both over
    dst_prog: "Prog | None" = field(default=None, repr=False)
    dst_key: int = 0
    # types of the program that it was loaded for a function of (saved_dst_prog_type, saved_dst_attach_type)
    dst_type: ProgType = ProgType.UNSPEC
    dst_attach_type: AttachType = AttachType.CGROUP_INET_INGRESS
    # whether another program replaces a function of it, and how many slots of program arrays hold it: not both
    is_extended: bool = False
    prog_array_members: int = 0
    # how many activations by a trampoline or a tracepoint each CPU has under way, 0 or 1 (prog->active)
    active: dict[int, int] = field(default_factory=dict, repr=False)
    stats: ProgStats = field(default_factory=ProgStats)
    run: Callable[[int, Cpu], int] = field(default=None, repr=False)  # type: ignore[assignment]
    # what the engine made of the instructions; tail calls go from image to image
    image: object = field(default=None, repr=False)
    # that, while the program runs in single steps
    plain_image: object = field(default=None, repr=False)
    # what stands for functions, by their first slot (``ebpfsim.jit.patch``)
    patches: dict[int, object] = field(default_factory=dict, repr=False)
    # the ways into its machine code
    entries: object = field(default=None, repr=False)
    released: Callable[["Prog"], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        KernelObject.__init__(self)

    def __hash__(self) -> int:
        return object.__hash__(self)

    @property
    def compiled(self) -> object:
        """What the engine made of it, whether or not it runs in single steps at the moment."""
        return self.plain_image or self.image

    @property
    def sleepable(self) -> bool:
        """Whether it may sleep (BPF_F_SLEEPABLE)."""
        return bool(self.prog_flags & BPF_F_SLEEPABLE)

    @property
    def btf(self) -> Btf | None:
        """The BTF that it was loaded with, where its functions have records in it."""
        return getattr(self.btf_fd_obj, "btf", None) if self.func_info else None

    def func_addr(self, insn_idx: int) -> int:
        """Return the address that a pointer to the function starting at that slot holds."""
        return self.image_addr + insn_idx * 8

    def on_release(self) -> None:
        """Let go of the maps, and of the program that it is for."""
        for map_ in self.maps:
            map_.put()
        if self.dst_prog is not None:
            self.dst_prog.put()
            self.dst_prog = None
        if self.released is not None:
            self.released(self)
