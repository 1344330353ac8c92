"""Links: attachments as kernel objects (``struct bpf_link``, kernel/bpf/syscall.c, v6.18).

A link holds a reference on its program for its whole life, also after it was detached; its last reference (descriptor,
pin) takes it off its hook. Taking it off cannot fail. Subclasses, one per hook, are the ``struct bpf_link_ops``.
"""

from typing import ClassVar, Protocol

from ebpfsim.clock import Clock
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import Note, Recorder
from ebpfsim.uapi.bpf import AttachType, LinkType

__all__ = ["HookKernel", "HookStats", "Link", "LinkBase", "LinkKernel", "note"]


class HookKernel(Protocol):
    """What hooks need of the simulated kernel around them."""

    name: str
    clock: Clock
    recorder: Recorder


class LinkKernel(HookKernel, Protocol):
    """What links need: the table that gives them ids."""

    links: IdTable[KernelObject]


def note(kernel: HookKernel, kind: str, text: str, details: dict[str, int | str]) -> None:
    """Record what happened to a hook."""
    kernel.recorder.notes.append(Note(kernel.clock.now_ns, kernel.name, kind, text, details))


class HookStats:
    """What a hook's runs came to, for observers: no kernel counter, and no program can see it.

    ``verdicts`` counts runs by the verdict that took effect, ``run_cost_ps`` adds up the calls (dispatcher or
    trampoline, and the body), ``packet_cost_ps`` all that packets cost on their CPU where this hook decided about them.
    """

    __slots__ = ("packet_cost_ps", "run_cost_ps", "runs", "verdicts")

    def __init__(self) -> None:
        self.runs = 0
        self.verdicts: dict[str, int] = {}
        self.run_cost_ps = 0
        self.packet_cost_ps = 0

    def count(self, verdict: str, run_cost_ps: int, packet_cost_ps: int) -> None:
        """Add one run."""
        self.runs += 1
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        self.run_cost_ps += run_cost_ps
        self.packet_cost_ps += packet_cost_ps

    def count_all(self, verdict: str, runs: int, run_cost_ps: int, packet_cost_ps: int) -> None:
        """Add some runs with the same verdict; costs are their sums."""
        self.runs += runs
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + runs
        self.run_cost_ps += run_cost_ps
        self.packet_cost_ps += packet_cost_ps

    @property
    def ns_per_run(self) -> float:
        """Mean nanoseconds of a call, to a picosecond; 0 before the first."""
        return self.run_cost_ps // self.runs / 1000 if self.runs else 0.0

    @property
    def ns_per_packet(self) -> float:
        """Mean nanoseconds that a packet cost where this hook decided about it, to a picosecond; 0 before the first."""
        return self.packet_cost_ps // self.runs / 1000 if self.runs else 0.0


class LinkBase(KernelObject):
    """One attachment, of a program or a map. ``label`` is a name for records, by default ``link ID``; Linux has none.

    Subclasses take it off its hook in ``release``.
    """

    type: ClassVar[LinkType] = LinkType.UNSPEC

    def __init__(self, kernel: LinkKernel, attach_type: AttachType, label: str = "") -> None:
        """Take an id; the caller owns the link's only reference (bpf_link_prime)."""
        super().__init__()
        self.kernel = kernel
        self.attach_type = attach_type
        self.stats = HookStats()
        kernel.links.add(self)
        self.label = label or f"link {self.id}"

    @property
    def prog_id(self) -> int:
        """The id of the program, 0 without one."""
        return 0

    @property
    def runs(self) -> int:
        """How often the hook ran what this link attaches."""
        return self.stats.runs

    @property
    def verdicts(self) -> dict[str, int]:
        """Runs by verdict, for instance ``{"XDP_DROP": 100}``."""
        return self.stats.verdicts

    @property
    def ns_per_run(self) -> float:
        """Mean nanoseconds of a run."""
        return self.stats.ns_per_run

    @property
    def ns_per_packet(self) -> float:
        """Mean nanoseconds that a packet cost where this link's program decided about it."""
        return self.stats.ns_per_packet

    def info(self) -> dict[str, object]:
        """Return the fields of ``struct bpf_link_info`` by their C names, those of the union beside the others."""
        return {"type": int(self.type), "id": self.id, "prog_id": self.prog_id} | self.fill_link_info()

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields that this kind of link adds to its info."""
        return {}

    def detach(self) -> None:
        """Leave the hook and keep the link (BPF_LINK_DETACH). EOPNOTSUPP where not supported."""
        raise KernelError("link_detach", Errno.EOPNOTSUPP, f"a {self.type.lower} link cannot be detached")

    def release(self) -> None:
        """Leave the hook if still on it; must not raise."""

    def on_release(self) -> None:
        """Give up the id, leave the hook (bpf_link_free)."""
        self.kernel.links.remove(self)
        self.release()


class Link(LinkBase):
    """The attachment of a program."""

    def __init__(self, kernel: LinkKernel, prog: Prog, attach_type: AttachType, label: str = "") -> None:
        """Take a reference on ``prog`` and an id."""
        prog.get()
        self.prog = prog
        super().__init__(kernel, attach_type, label)

    @property
    def prog_id(self) -> int:
        """The id of the program."""
        return self.prog.id

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program (BPF_LINK_UPDATE); ``old`` is what BPF_F_REPLACE expects. EINVAL where not supported."""
        raise KernelError("link_update", Errno.EINVAL, f"a {self.type.lower} link cannot be updated")

    def on_release(self) -> None:
        """Give up the id, leave the hook, let go of the program."""
        super().on_release()
        self.prog.put()
