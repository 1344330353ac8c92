"""What one run of the verifier knows: program, limits, facts per instruction (``struct bpf_verifier_env``)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ebpfsim.errnos import Errno
from ebpfsim.helpers.privileged import allowed_helpers
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.progs.prog import AttachTarget, Prog
from ebpfsim.progs.types import PROG_TYPES, ProgTypeInfo, helpers_for
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_ANY_ALIGNMENT, BPF_F_SLEEPABLE, BPF_F_STRICT_ALIGNMENT, BPF_F_TEST_STATE_FREQ
from ebpfsim.verifier.kfunc import Kfunc
from ebpfsim.verifier.state import UNINIT, UNKNOWN, Frame, Reg, State

if TYPE_CHECKING:
    from ebpfsim.btf.btf import Btf
    from ebpfsim.verifier.btfid import BtfId
    from ebpfsim.verifier.liveness import StackLiveness

__all__ = ["Env", "LoadAttr", "Log", "Privileges", "Reject", "SubprogInfo", "VerifierKernel"]

# log_level of BPF_PROG_LOAD: 1 is the state at branches and the error, 2 every step, 4 statistics
BPF_LOG_LEVEL1, BPF_LOG_LEVEL2, BPF_LOG_STATS = 1, 2, 4
BPF_LOG_LEVEL = BPF_LOG_LEVEL1 | BPF_LOG_LEVEL2

BPF_COMPLEXITY_LIMIT_INSNS = 1_000_000
BPF_COMPLEXITY_LIMIT_JMP_SEQ = 8192
BPF_F_TEST_REG_INVARIANTS = 1 << 7

# bits of Env.points
PRUNE_POINT, JMP_POINT, FORCE_CHECKPOINT, CALLS_CALLBACK, ITER_NEXT, FASTCALL_PATTERN = 1, 2, 4, 8, 16, 32


class VerifierKernel(Protocol):
    """What the verifier asks of the kernel around it."""

    def map_by_fd(self, fd: int) -> Map | None:
        """Return the map behind a descriptor, or None."""
        ...

    @property
    def nr_cpus(self) -> int:
        """The number of possible CPUs (``nr_cpu_ids``)."""
        ...


@dataclass(frozen=True, slots=True)
class Privileges:
    """What the loading task may: CAP_BPF, and CAP_PERFMON for all else.

    ``bypass_spec``: nothing is done against attacks on speculative execution, with CAP_PERFMON or without mitigations.
    """

    bpf_capable: bool = True
    allow_ptr_leaks: bool = True
    bypass_spec: bool = True


PRIVILEGED = Privileges()


@dataclass(frozen=True, slots=True)
class LoadAttr:
    """What BPF_PROG_LOAD hands over: fds in LD_IMM64; records of ``func_info`` take 8 bytes, of ``line_info`` 16.

    ``attach_prog`` is the program that ``attach_btf_id`` is a function of; without one it is a type of the kernel.
    """

    prog_type: ProgType
    insns: tuple[Insn, ...]
    name: str = ""
    license: str = "GPL"
    expected_attach_type: int = 0
    prog_flags: int = 0
    btf: "Btf | None" = None
    func_info: bytes = b""
    line_info: bytes = b""
    attach_btf_id: int = 0
    attach_prog: Prog | None = None
    log_level: int = 1
    fd_array: tuple[int, ...] = ()
    privileges: Privileges = PRIVILEGED


class Reject(Exception):
    """The program is refused; the reason is in the log already."""

    def __init__(self, errno: int) -> None:
        self.errno = int(errno)
        super().__init__(self.errno)


class Log:
    """The verifier's log, of which a tail can be taken back (``bpf_vlog_reset``)."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.end_pos = 0
        self._parts: list[str] = []

    def write(self, text: str) -> None:
        """Append a piece of text."""
        self._parts.append(text)
        self.end_pos += len(text)

    def reset(self, pos: int) -> None:
        """Forget everything from ``pos`` on."""
        while self.end_pos > pos:
            part = self._parts.pop()
            self.end_pos -= len(part)
            if self.end_pos < pos:
                self._parts.append(part[: pos - self.end_pos])
                self.end_pos = pos

    def __str__(self) -> str:
        return "".join(self._parts)


@dataclass(slots=True)
class SubprogArg:
    """What BTF says of an argument of a global function."""

    arg_type: int
    mem_size: int = 0
    btf_id: int = 0


@dataclass(slots=True)
class SubprogInfo:
    """One function of the program (``struct bpf_subprog_info`` and ``bpf_func_info_aux``)."""

    start: int
    name: str = ""
    stack_depth: int = 0
    fastcall_stack_off: int = 0
    postorder_start: int = 0
    exit_idx: int = 0
    has_tail_call: bool = False
    tail_call_reachable: bool = False
    has_ld_abs: bool = False
    is_cb: bool = False
    is_async_cb: bool = False
    keep_fastcall_stack: bool = False
    changes_pkt_data: bool = False
    might_sleep: bool = False
    args: "list[SubprogArg] | None" = None
    linkage: int = 0
    type_id: int = 0
    called: bool = False
    verified: bool = False
    unreliable: bool = False


@dataclass(frozen=True, slots=True)
class LineInfo:
    """One record of line_info."""

    insn_off: int
    file_name_off: int
    line_off: int
    line_col: int

    @property
    def line(self) -> int:
        """The line number (BPF_LINE_INFO_LINE_NUM)."""
        return self.line_col >> 10


@dataclass(slots=True)
class Backtrack:
    """Which registers and slots are looked for while going back (``struct backtrack_state``)."""

    frame: int = 0
    reg_masks: list[int] = field(default_factory=lambda: [0] * 8)
    stack_masks: list[int] = field(default_factory=lambda: [0] * 8)

    def reset(self) -> None:
        """Look for nothing."""
        self.frame = 0
        self.reg_masks = [0] * 8
        self.stack_masks = [0] * 8

    def empty(self) -> bool:
        """Say whether all was found."""
        if not self.frame:
            return not (self.reg_masks[0] or self.stack_masks[0])
        return not any(self.reg_masks[: self.frame + 1]) and not any(self.stack_masks[: self.frame + 1])


class Env:
    """One run of the verifier (``struct bpf_verifier_env``); facts per instruction are lists by slot."""

    def __init__(self, attr: LoadAttr, kernel: VerifierKernel) -> None:
        # a program that replaces a function is verified as one of the type that the function is of
        self.extension = attr.prog_type == ProgType.EXT
        if self.extension and attr.attach_prog is not None:
            target = attr.attach_prog
            attr = replace(attr, prog_type=target.type, expected_attach_type=target.expected_attach_type)
        self.attr = attr
        self.kernel = kernel
        self.prog_type = ProgType(attr.prog_type)
        self.info = PROG_TYPES.get(self.prog_type) or ProgTypeInfo(self.prog_type, frozenset())
        self.insns: list[Insn] = list(attr.insns)
        self.log = Log(attr.log_level)
        self.log_level = attr.log_level
        self.gpl_compatible = attr.license in _GPL_LICENSES
        self.sleepable = bool(attr.prog_flags & BPF_F_SLEEPABLE)
        self.strict_alignment = bool(attr.prog_flags & BPF_F_STRICT_ALIGNMENT)
        if attr.prog_flags & BPF_F_ANY_ALIGNMENT:
            self.strict_alignment = False
        self.test_state_freq = bool(attr.prog_flags & BPF_F_TEST_STATE_FREQ)
        self.test_reg_invariants = bool(attr.prog_flags & BPF_F_TEST_REG_INVARIANTS)
        self.bpf_capable = attr.privileges.bpf_capable
        self.allow_ptr_leaks = self.allow_uninit_stack = attr.privileges.allow_ptr_leaks
        self.bypass_spec = attr.privileges.bypass_spec
        self.test_state_freq &= self.bpf_capable

        count = len(self.insns)
        self.points = bytearray(count + 1)
        self.scc = [0] * count
        self.live_regs = [0] * count
        self.ptr_type = [0] * count
        self.seen = [0] * count
        self.map_index = [-1] * count
        self.map_off = [0] * count
        self.ctx_field_size = [0] * count
        self.fastcall_spills = [0] * count
        # slots that speculative execution must not reach, or not go on from; and how additions are masked
        self.nospec: set[int] = set()
        self.nospec_result: set[int] = set()
        self.alu_sanitation: dict[int, tuple[int, int]] = {}
        self.explore_alu_limits = False
        self.map_ptr_state: dict[int, list[object]] = {}
        self.map_key_state: dict[int, int | None] = {}
        self.loop_inline: dict[int, list[int]] = {}
        self.arena: Map | None = None
        self.arena_alu: set[int] = set()  # 64-bit arithmetic on pointers into it (needs_zext)
        self.ksyms: dict[int, Reg] = {}
        self.kfuncs: dict[int, Kfunc] = {}
        # of calls: the object that is made, dropped or added to a list, and where in it its node lies
        self.kfunc_objects: dict[int, tuple[BtfId, int]] = {}
        self.percpu_calls: set[int] = set()  # calls with per-CPU objects of the program
        self.atomic_storage: set[int] = set()  # calls that create storage where nothing may sleep

        self.subprogs: list[SubprogInfo] = []
        self.subprog_at: dict[int, int] = {}
        self.subprog_of: list[int] = []
        self.used_maps: list[Map] = []
        self.linfo: list[LineInfo] = []
        self.linfo_of: list[LineInfo | None] = []
        self.postorder: list[int] = []
        self.successors: list[tuple[int, ...]] = []

        self.cur_state: State = State(Frame(-1, 0, 0), 0)
        self.stack: list[tuple[State, int, int, int]] = []  # state, insn_idx, prev_insn_idx, log position
        self.explored: list[list[State]] = []
        self.free_list_size = 0
        self.explored_size = 0
        self.num_backedges = 0
        self.scc_visits: dict[tuple[int, ...], SccVisit] = {}
        self.liveness: StackLiveness
        self.bt = Backtrack()
        self.touched: list[int] = []
        self.insn_idx = 0
        self.prev_insn_idx = 0
        self.cur_hist_ent = False
        self.id_gen = 0
        self.pass_cnt = 0
        self.insn_processed = 0
        self.prev_insn_processed = 0
        self.jmps_processed = 0
        self.prev_jmps_processed = 0
        self.max_states_per_insn = 0
        self.total_states = 0
        self.peak_states = 0
        self.scratched_regs = 0
        self.scratched_slots = 0
        self.prev_linfo: LineInfo | None = None
        self.prev_log_pos = 0
        self.prev_insn_print_pos = 0
        self.seen_direct_write = False
        self.seen_exception = False
        # the function that runs when the program throws (exception_callback_subprog), or 0
        self.exception_callback = 0
        # the program reads __sk_buff.tstamp_type (prog->tstamp_type_access)
        self.tstamp_type_access = False
        self.changes_pkt_data = False
        # where the accesses to the context end
        self.max_ctx_offset = 0
        # how far buffers are accessed whose sizes are known when the program is attached, by kind
        self.max_buffer_access = {"rdonly": 0, "rdwr": 0, "tracepoint": 0}
        # the program may only be attached where it was loaded for
        self.enforce_expected_attach_type = False
        # the kernel function that a tracing or struct_ops program is for (prog->aux->attach_func_proto and others)
        self.target: AttachTarget | None = None

    def call_name(self, insn: Insn) -> str | None:
        """Return the name that a call of a kernel function prints (``disasm_kfunc_name``)."""
        kfunc = self.kfuncs.get(insn.imm)
        return kfunc.name if kfunc is not None else None

    def verbose(self, text: str) -> None:
        """Write to the log, when there is one."""
        if self.log_level:
            self.log.write(text)

    @property
    def helpers(self) -> frozenset[int]:
        """The helpers that the program may call."""
        name = self.target.name if self.target is not None else ""
        known = helpers_for(self.prog_type, self.attr.expected_attach_type, name)
        may = self.attr.privileges
        return allowed_helpers(known, bpf_capable=may.bpf_capable, perfmon_capable=may.allow_ptr_leaks)

    @property
    def invalid_reg(self) -> Reg:
        """What a register holds that pointed to something which is gone (``mark_reg_invalid``)."""
        return UNKNOWN if self.allow_ptr_leaks else UNINIT

    def fail(self, errno: Errno, text: str) -> Reject:
        """Write the reason to the log and return the exception to raise."""
        if self.log_level:
            self.log.write(text)
        return Reject(errno)

    def bug(self, text: str) -> Reject:
        """Report a broken promise of the verifier itself, as the kernel would."""
        return self.fail(Errno.EFAULT, f"verifier bug: {text}\n")

    @property
    def cur_frame(self) -> Frame:
        """The innermost frame of the current state."""
        return self.cur_state.frames[-1]

    def regs(self) -> list[Reg]:
        """The registers of the innermost frame."""
        return self.cur_state.frames[-1].regs

    def next_id(self) -> int:
        """Return a fresh id for a pointer, a scalar or a reference."""
        self.id_gen += 1
        return self.id_gen

    def expected_attach(self, *types: AttachType) -> bool:
        """Say whether the program was loaded for one of these attach types."""
        return self.attr.expected_attach_type in types


@dataclass(slots=True)
class SccVisit:
    """One visit of a loop by a call chain (``struct bpf_scc_visit``)."""

    entry_state: State | None = None
    backedges: list[State] = field(default_factory=list)
    num_backedges: int = 0


# license_is_gpl_compatible(), include/linux/license.h
_GPL_LICENSES = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)

Facts = Mapping[int, object]
