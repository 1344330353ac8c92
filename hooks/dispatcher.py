"""The BPF dispatcher: direct calls for the programs of one hook (kernel/bpf/dispatcher.c, v6.18).

A dispatcher is a generated function that compares the address of the program to run with those it knows, by binary
search, and jumps to the match directly; an address that it does not know ends in an indirect call. It has 48 slots with
a count of users each. Every change of its set writes a new image into the spare half of its page and turns its callers
over to it. XDP has the only dispatcher.

With ``text`` the image's bytes (``hooks.dispatcher_image``) lie in RAM, in two halves of a page. The caller's call is
poked before the spare half may be written again.

Differs: machine code of the image is not what the host executes; what is charged is what it would take.
"""

from dataclasses import dataclass
from functools import cached_property

from ebpfsim.costs import CostProfile
from ebpfsim.progs.prog import Prog
from hooks.dispatcher_image import NOP_FUNC, prepare_dispatcher
from hooks.link import HookKernel, note
from hooks.text import KernelText, TextImage, function_address, prog_text_address
from hooks.trampoline_image import JMP, PATCH_BYTES, branch_to

__all__ = ["BPF_DISPATCHER_MAX", "Dispatcher", "DispatcherImage"]

BPF_DISPATCHER_MAX = 48  # include/linux/bpf.h: fits in 2048 bytes
HALF_IMAGE = 2048  # PAGE_SIZE / 2: an image is written to one half while the other is in use
FULL_TABLE_COMPARES = 7  # of a binary search over 48 entries


def search_depths(count: int) -> list[int]:
    """Return how many compare instructions lead to each of ``count`` entries (emit_bpf_dispatcher, arch/x86/net).

    The generated search halves a range of two or more entries with a compare and ends in another one at the entry.
    """
    depths = [0] * count
    ranges = [(0, count - 1, 1)] if count else []
    while ranges:
        first, last, depth = ranges.pop()
        if first == last:
            depths[first] = depth
            continue
        pivot = first + (last - first) // 2
        ranges += [(first, pivot, depth + 1), (pivot + 1, last, depth + 1)]
    return depths


@dataclass(frozen=True)
class DispatcherImage:
    """One generation of the dispatcher's code.

    ``entries`` are the programs in ascending order of their image addresses; none means that callers go to
    ``bpf_dispatcher_nop_func``, the plain indirect call. ``image_off`` is the half of the page that it is in.
    """

    generation: int
    entries: tuple[Prog, ...]
    image_off: int

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """The compared addresses, ascending."""
        return tuple(prog.image_addr for prog in self.entries)

    @cached_property
    def compares(self) -> dict[int, int]:
        """The number of compares that lead to each address."""
        return dict(zip(self.addresses, search_depths(len(self.entries)), strict=True))

    def miss_compares(self, address: int) -> int:
        """Return the number of compares after which an unknown address ends in the indirect call."""
        if not self.entries:
            return 0
        # the leaf where the search ends is the first entry that is not below the address, else the last one
        leaf = next((entry for entry in self.addresses if entry >= address), self.addresses[-1])
        return self.compares[leaf]


class _Slot:
    # struct bpf_dispatcher_prog
    __slots__ = ("prog", "users")

    def __init__(self) -> None:
        self.prog: Prog | None = None
        self.users = 0


class Dispatcher:
    """The dispatcher of one simulated kernel."""

    def __init__(
        self, kernel: HookKernel, name: str = "xdp", text: KernelText | None = None, *, retpoline: bool = True
    ) -> None:
        self.kernel = kernel
        self.name = name
        self.text = text
        self.retpoline = retpoline
        self.page: TextImage | None = None
        # the static call of bpf_dispatcher_xdp_func(), behind the place for ftrace: a jump to the image, without one
        # to bpf_dispatcher_nop_func()
        self.site = function_address(f"bpf_dispatcher_{name}_func") + PATCH_BYTES
        self.entry_code = branch_to(JMP, self.site, NOP_FUNC)
        self.image = DispatcherImage(0, (), 0)
        self._slots = [_Slot() for _ in range(BPF_DISPATCHER_MAX)]
        self._num_progs = 0
        self.image_bytes = 0
        self._known_ps: dict[tuple[int, int, str], int] = {}

    @property
    def generation(self) -> int:
        """How often the image was regenerated."""
        return self.image.generation

    @property
    def num_progs(self) -> int:
        """How many different programs have a slot."""
        return self._num_progs

    def users(self, prog: Prog) -> int:
        """Return how many attachments of a program the dispatcher counts; 0 when it has no slot."""
        slot = self._find(prog)
        return slot.users if slot is not None else 0

    def change_prog(self, old: Prog | None, new: Prog | None) -> None:
        """Count one attachment of ``old`` out and one of ``new`` in (bpf_dispatcher_change_prog); cannot fail.

        A program that finds no free slot stays outside: it runs by the indirect call until it is attached anew.
        """
        if old is new:
            return
        prev_num_progs = self._num_progs
        removed = self._remove(old)
        added = self._add(new)
        if removed or added:
            self._update(prev_num_progs)

    def cost_ps(self, prog: Prog, costs: CostProfile, mitigations: str) -> int:
        """Return the cost of reaching the body of ``prog`` through the dispatcher, in picoseconds.

        A hit is row ``dispatcher.hit`` (one compare and a direct call) and each further compare on its way; a miss is
        the indirect call (a retpoline unless mitigations are off) and the compares before it. A compare is a share of
        row ``dispatcher.miss``, which was measured with a full table.
        """
        known = (self.image.generation, prog.image_addr, mitigations)
        cost_ps = self._known_ps.get(known)
        if cost_ps is None:
            cost_ps = self._known_ps[known] = self._cost_ps(prog, costs, mitigations)
        return cost_ps

    def _cost_ps(self, prog: Prog, costs: CostProfile, mitigations: str) -> int:
        image = self.image
        compare_ps = costs.ps("dispatcher.miss") // FULL_TABLE_COMPARES
        compares = image.compares.get(prog.image_addr)
        if compares is not None:
            return costs.ps("dispatcher.hit") + (compares - 1) * compare_ps
        indirect = "call.indirect" if mitigations == "off" else "call.indirect.retpoline"
        return costs.ps(indirect) + image.miss_compares(prog.image_addr) * compare_ps

    def _find(self, prog: Prog | None) -> _Slot | None:
        return next((slot for slot in self._slots if slot.prog is prog), None)

    def _add(self, prog: Prog | None) -> bool:
        if prog is None:
            return False
        slot = self._find(prog)
        if slot is not None:
            slot.users += 1
            return False
        slot = self._find(None)
        if slot is None:
            return False
        prog.get()
        slot.prog, slot.users = prog, 1
        self._num_progs += 1
        return True

    def _remove(self, prog: Prog | None) -> bool:
        slot = self._find(prog) if prog is not None else None
        if slot is None or slot.prog is None:
            return False
        slot.users -= 1
        if slot.users:
            return False
        slot.prog.put()
        slot.prog = None
        self._num_progs -= 1
        return True

    def _update(self, prev_num_progs: int) -> None:
        # bpf_dispatcher_update: the half that is not in use, the first one when nothing was; an empty set keeps the
        # offset of the last image
        entries = tuple(sorted((slot.prog for slot in self._slots if slot.prog is not None), key=_image_addr))
        image_off = self.image.image_off
        if entries:
            image_off = image_off ^ HALF_IMAGE if prev_num_progs else 0
        self._known_ps.clear()
        self.image = DispatcherImage(self.image.generation + 1, entries, image_off)
        if self.text is not None:
            self._write(self.text, image_off)
        note(
            self.kernel,
            "dispatcher",
            f"{self.name} dispatcher rebuilt: {len(entries)} program{'' if len(entries) == 1 else 's'}",
            {
                "generation": self.image.generation,
                "num_progs": len(entries),
                "image_off": image_off,
                "prog_ids": " ".join(str(prog.id) for prog in entries),
            },
        )

    def _write(self, text: KernelText, image_off: int) -> None:
        # bpf_dispatcher_update: the spare half gets the code, the call site jumps there
        site = self.site
        code = branch_to(JMP, site, NOP_FUNC)
        if self.image.entries:
            page = self.page
            if page is None:
                # the page is the dispatcher's for good
                page = self.page = text.reserve(f"bpf_dispatcher_{self.name}", 2 * HALF_IMAGE)
                text.publish(page, bytes(2 * HALF_IMAGE), charge=0)
            base = page.address + image_off
            addresses = [prog_text_address(prog) for prog in self.image.entries]
            image = prepare_dispatcher(addresses, base, retpoline=self.retpoline)
            text.kernel.mem.write(page.ram + image_off, image)
            self.image_bytes = len(image)
            code = branch_to(JMP, site, base)
        before, self.entry_code = self.entry_code, code
        if code != before:
            note(
                self.kernel,
                "text_poke",
                f"text poke at bpf_dispatcher_{self.name}_func: {before.hex(' ')} becomes {code.hex(' ')}",
                {"site": f"bpf_dispatcher_{self.name}_func", "address": site, "old": before.hex(), "new": code.hex()},
            )

    def code(self) -> bytes:
        """Return the code in use; nothing while callers go to the plain indirect call."""
        if self.page is None or self.text is None or not self.image.entries:
            return b""
        return self.text.kernel.mem.read(self.page.ram + self.image.image_off, self.image_bytes)


def _image_addr(prog: Prog) -> int:
    return prog.image_addr
