"""Trampolines: programs around a function (kernel/bpf/trampoline.c, v6.18).

A trampoline belongs to one function, of the kernel or of a program. It has lists of links by kind, the one that came
last in front. Every change makes a new generation: an image is generated (``hooks.trampoline_image``), the call site in
the function's first bytes is turned over to it, and the image before it is freed after a grace period. A call that is
under way ends in the generation in which it began.

What runs is ``Generation.call``, which does what the image's code says, step by step: arguments into a frame on the
CPU's BPF stack, programs between enter and exit, the function, programs, the result. Text pokes are notes of kind
``text_poke``. Left out: trampolines that are shared with live patches (BPF_TRAMP_F_SHARE_IPMODIFY).

Differs: machine code of the image is not what the host executes.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from struct import Struct
from typing import Any, Protocol

from ebpfsim.costs import CostProfile
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import Memory
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Ran, Runtime
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.frame import pop_frame, push_frame
from hooks.func_model import FuncModel
from hooks.link import HookKernel, Link, note
from hooks.run import Execute, bpf_prog_run
from hooks.text import KernelText, TextImage, function_address, prog_text_address
from hooks.trampoline_image import CALL, JMP, NOP5, branch_to, prepare_trampoline

__all__ = ["BPF_MAX_TRAMP_LINKS", "CallSite", "Generation", "TrampKind", "TrampLink", "Trampoline", "Trampolines"]

BPF_MAX_TRAMP_LINKS = 38  # include/linux/bpf.h
IMAGE_BYTES = 4096  # PAGE_SIZE: what an image may take
COOKIE = "bpf_cookie"
_HEAD = Struct("<QQ")  # in front of the context: address of the function, how many words
_CALL_IMM = 0x85  # BPF_JMP | BPF_CALL

# a function as it is called: the CPU, then its arguments word by word
Function = Callable[..., int]


class TrampKind(Enum):
    """Kinds of links of a trampoline (``enum bpf_tramp_prog_type``)."""

    FENTRY = "fentry"
    FEXIT = "fexit"
    MODIFY_RETURN = "fmod_ret"
    REPLACE = "freplace"


class TrampKernel(HookKernel, Runtime, Protocol):
    """What trampolines need of a kernel."""

    mem: Memory
    costs: CostProfile
    text: KernelText


class CallSite(Protocol):
    """A function that can be traced: where it is, how it is called, and its first bytes, which can be changed."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def address(self) -> int:
        """The address of its first byte."""
        ...

    @property
    def model(self) -> FuncModel:
        """How it is called."""
        ...

    def original(self, cpu: Cpu, /, *args: int) -> int:
        """Call the function itself, whatever its first bytes are."""
        ...

    def poke(self, call: Function | None) -> None:
        """Let calls of the function go to ``call``; None is the function itself."""
        ...

    def replace(self, prog: Prog | None) -> None:
        """Let calls of the function go to a program in its place; None is the function itself."""
        ...


def tramp_kind(prog: Prog) -> TrampKind:
    """Return the kind of a program's links (``bpf_attach_type_to_tramp``)."""
    if prog.type == ProgType.EXT:
        return TrampKind.REPLACE
    if prog.type == ProgType.LSM:
        target = prog.attach_target
        returns = target is not None and target.proto is not None and target.proto.type_id
        return TrampKind.MODIFY_RETURN if returns else TrampKind.FEXIT
    by_attach = {
        AttachType.TRACE_FENTRY: TrampKind.FENTRY,
        AttachType.TRACE_FEXIT: TrampKind.FEXIT,
        AttachType.MODIFY_RETURN: TrampKind.MODIFY_RETURN,
    }
    return by_attach.get(prog.expected_attach_type, TrampKind.REPLACE)


class TrampLink:
    """A program on a trampoline (``struct bpf_tramp_link``), with what its runs need.

    ``shim_run`` stands in for the program where links of another kind do their own work (``hooks.lsm_cgroup``).
    """

    shim_run: Callable[[int, Cpu], Any] | None = None
    __slots__ = (
        *("charge_ps", "checks_recursion", "code_addr", "cookie", "enter_addr", "exit_addr", "hook", "kind", "link"),
        *("prog", "prog_addr", "wants_ip"),
    )

    def __init__(self, kernel: TrampKernel, link: Link, cookie: int = 0) -> None:
        prog = link.prog
        self.link = link
        self.prog = prog
        self.cookie = cookie
        self.kind = tramp_kind(prog)
        is_lsm = prog.type == ProgType.LSM
        self.hook = "lsm" if is_lsm else self.kind.value
        self.charge_ps = kernel.costs.ps(self.hook) if self.kind is not TrampKind.REPLACE else 0
        # bpf_prog_check_recur
        self.checks_recursion = not is_lsm
        name = "sleepable" if prog.sleepable else ""
        name += "_recur" if self.checks_recursion and name else "recur" if self.checks_recursion else ""
        suffix = f"_{name}" if name else ""
        self.enter_addr = function_address(f"__bpf_prog_enter{suffix}")
        self.exit_addr = function_address(f"__bpf_prog_exit{suffix}")
        self.prog_addr = prog.image_addr
        self.code_addr = prog_text_address(prog)
        ip = HELPER_IDS["bpf_get_func_ip"]
        self.wants_ip = any(insn.code == _CALL_IMM and not insn.src and insn.imm == ip for insn in prog.insns)


class Generation:
    """What a trampoline runs between two changes. ``call`` takes the place of the function."""

    def __init__(self, trampoline: "Trampoline", number: int, image: TextImage) -> None:
        self.trampoline = trampoline
        self.number = number
        self.image = image
        self.running = 0
        links = trampoline.links
        self.fentry = tuple(links[TrampKind.FENTRY])
        self.fmod_ret = tuple(links[TrampKind.MODIFY_RETURN])
        self.fexit = tuple(links[TrampKind.FEXIT])
        site, kernel = trampoline.site, trampoline.kernel
        self._site = site
        self._kernel = kernel
        self._execute = trampoline.execute
        self._model = site.model
        self._masks = site.model.masks()
        self._nr = len(self._masks)
        self._words = Struct(f"<{self._nr + 1}Q")
        # a frame is a multiple of 16 bytes
        self._frame_bytes = -(-(_HEAD.size + self._words.size) // 16) * 16

    def call(self, cpu: Cpu, *args: int) -> int:
        """Call the function, with its programs around it, and return what comes of it."""
        mem = self._kernel.mem
        frame = push_frame(mem, cpu, self._frame_bytes)
        ctx = frame + _HEAD.size
        words = [value & mask for value, mask in zip(args, self._masks, strict=True)]
        mem.write(frame, _HEAD.pack(self._site.address, self._nr) + self._words.pack(*words, 0))
        result_at = ctx + 8 * self._nr
        self.running += 1
        try:
            for link in self.fentry:
                self._run(link, ctx, cpu)
            if not self.fmod_ret and not self.fexit:
                return self._site.original(cpu, *args)
            if not self._modify(ctx, result_at, cpu):
                result = self._site.original(cpu, *args)
                mem.store(result_at, 8, self._model.ret_word(result))
            for link in self.fexit:
                self._run(link, ctx, cpu)
            return self._model.result(mem.load(result_at, 8))
        finally:
            self.running -= 1
            pop_frame(mem, cpu, frame, self._frame_bytes)

    def _modify(self, ctx: int, result_at: int, cpu: Cpu) -> bool:
        # programs that may replace the result, until one of them does: then the function is not called
        for link in self.fmod_ret:
            ran = self._run(link, ctx, cpu)
            # a program that was skipped leaves the result as it is
            if ran is not None:
                self._kernel.mem.store(result_at, 8, ran.r0)
            if self._kernel.mem.load(result_at, 8):
                return True
        return False

    def _run(self, link: TrampLink, ctx: int, cpu: Cpu) -> Any:
        # __bpf_prog_enter_recur, the program, __bpf_prog_exit_recur
        if link.shim_run is not None:
            return link.shim_run(ctx, cpu)
        prog, kernel = link.prog, self._kernel
        start_ns = cpu.now_ns
        cpu.charge(link.charge_ps)
        active = prog.active
        if link.checks_recursion:
            if active.get(cpu.number):
                prog.stats.recursion_misses += 1
                return None
            active[cpu.number] = 1
        scratch = cpu.scratch
        saved, scratch[COOKIE] = scratch.get(COOKIE), link.cookie
        try:
            ran = bpf_prog_run(kernel, prog, ctx, cpu, self._execute)
        finally:
            scratch[COOKIE] = saved
            if link.checks_recursion:
                active[cpu.number] = 0
        record_run(kernel, link, ran, start_ns, cpu, self._site.name)
        return ran


def record_run(kernel: TrampKernel, link: TrampLink, ran: Ran, start_ns: int, cpu: Cpu, target: str) -> None:
    """Count a run for its link and record it; the device of the record is the function."""
    retval = ran.retval - (1 << 32) if ran.retval >> 31 else ran.retval
    verdict = str(retval) if link.kind is TrampKind.MODIFY_RETURN else ""
    link.link.stats.count(verdict, ran.cost_ps + link.charge_ps, 0)
    # fmt: off
    kernel.recorder.runs.append(
        ProgRun(
            start_ns, kernel.name, cpu.number, link.hook, target, link.link.label, link.prog.id, link.prog.name,
            ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
        )
    )
    # fmt: on


class Trampoline:
    """The trampoline of one function (``struct bpf_trampoline``)."""

    def __init__(self, kernel: TrampKernel, key: int, site: CallSite, execute: Execute) -> None:
        self.kernel = kernel
        self.key = key
        self.site = site
        self.execute = execute
        self.links: dict[TrampKind, list[TrampLink]] = {kind: [] for kind in TrampKind}
        self.extension_prog: Prog | None = None
        self.generation: Generation | None = None
        self.generations = 0
        # the first bytes of the function, as they are now
        self.entry_code = NOP5

    @property
    def name(self) -> str:
        """Its name in kallsyms."""
        return f"bpf_trampoline_{self.key}"

    @property
    def nr_links(self) -> int:
        """How many programs it has, of all kinds that share it."""
        return sum(len(links) for links in self.links.values())

    def link_prog(self, link: TrampLink) -> None:
        """Add a program (``__bpf_trampoline_link_prog``): EBUSY, E2BIG."""
        op = "link_create"
        if self.extension_prog is not None:
            raise KernelError(
                op, Errno.EBUSY, f"{self.site.name}() is replaced by program '{self.extension_prog.name}'"
            )
        count = self.nr_links
        if link.kind is TrampKind.REPLACE:
            if count:
                raise KernelError(op, Errno.EBUSY, f"{self.site.name}() is traced")
            self._extend(op, True)
            self._replace(link.prog)
            return
        if count >= BPF_MAX_TRAMP_LINKS:
            raise KernelError(op, Errno.E2BIG, f"{self.site.name}() has {count} programs")
        links = self.links[link.kind]
        if any(other.prog is link.prog for other in links):
            raise KernelError(op, Errno.EBUSY, f"program '{link.prog.name}' is attached to {self.site.name}() already")
        links.insert(0, link)
        try:
            self._update()
        except BaseException:
            links.remove(link)
            raise

    def unlink_prog(self, link: TrampLink) -> None:
        """Take a program off (``__bpf_trampoline_unlink_prog``)."""
        if link.kind is TrampKind.REPLACE:
            self._replace(None)
            self._extend("", False)
            return
        self.links[link.kind].remove(link)
        self._update()

    def _extend(self, op: str, is_extended: bool) -> None:
        # bpf_freplace_check_tgt_prog(): a program that tail calls reach is not extended, lest they go round for ever
        target: Prog | None = getattr(self.site, "prog", None)
        if target is None:
            return
        if is_extended and target.prog_array_members:
            raise KernelError(op, Errno.EBUSY, f"program '{target.name}' is in a program array")
        target.is_extended = is_extended

    def _replace(self, prog: Prog | None) -> None:
        # bpf_arch_text_poke(BPF_MOD_JUMP): nothing is generated, the function's first bytes jump to the program
        self.extension_prog = prog
        self.site.replace(prog)
        target = prog_text_address(prog) if prog is not None else 0
        self._poke(branch_to(JMP, self.site.address, target) if prog is not None else NOP5)

    def _update(self) -> None:
        # bpf_trampoline_update
        kernel, before = self.kernel, self.generation
        if not self.nr_links:
            self.generation = None
            self.site.poke(None)
            self._poke(NOP5)
        else:
            self.generations += 1
            image = self._image()
            generation = Generation(self, self.generations, image)
            self.generation = generation
            self.site.poke(generation.call)
            self._poke(branch_to(CALL, self.site.address, image.address))
        if before is not None:
            kernel.text.retire(before.image)
        after = self.generation
        note(
            kernel,
            "trampoline",
            f"trampoline of {self.site.name}: {self.nr_links} program{'' if self.nr_links == 1 else 's'}",
            {
                "function": self.site.name,
                "generation": self.generations,
                "num_progs": self.nr_links,
                "image_bytes": after.image.size if after is not None else 0,
                "image_bytes_before": before.image.size if before is not None else 0,
                "prog_ids": " ".join(str(link.prog.id) for links in self.links.values() for link in links),
            },
        )

    def _image(self) -> TextImage:
        text = self.kernel.text
        image = text.reserve(self.name, IMAGE_BYTES)
        links = self.links
        code = prepare_trampoline(
            self.site.model,
            self.site.address,
            links[TrampKind.FENTRY],
            links[TrampKind.MODIFY_RETURN],
            links[TrampKind.FEXIT],
            base=image.address,
            im_addr=image.ram,
            tramp_enter=function_address("__bpf_tramp_enter"),
            tramp_exit=function_address("__bpf_tramp_exit"),
            ip_arg=any(link.wants_ip for kind in links.values() for link in kind),
        )
        text.publish(image, code)
        return image

    def _poke(self, code: bytes) -> None:
        before, self.entry_code = self.entry_code, code
        note(
            self.kernel,
            "text_poke",
            f"text poke at {self.site.name}: {before.hex(' ')} becomes {code.hex(' ')}",
            {"site": self.site.name, "address": self.site.address, "old": before.hex(), "new": code.hex()},
        )


class Trampolines:
    """The trampolines of one kernel by key, made when a first link wants one and forgotten with the last."""

    def __init__(self, kernel: Any, execute: Execute) -> None:
        self.kernel: TrampKernel = kernel
        self.execute = execute
        self.by_key: dict[int, Trampoline] = {}

    def find(self, key: int) -> Trampoline | None:
        """Return the trampoline of a key, if there is one."""
        return self.by_key.get(key)

    def get(self, key: int, site: CallSite) -> Trampoline:
        """Return the trampoline of a key, made for a function when there is none (``bpf_trampoline_get``)."""
        found = self.by_key.get(key)
        if found is None:
            found = self.by_key[key] = Trampoline(self.kernel, key, site, self.execute)
        return found

    def put(self, trampoline: Trampoline) -> None:
        """Forget a trampoline without programs (``bpf_trampoline_put``)."""
        if not trampoline.nr_links and trampoline.extension_prog is None:
            self.by_key.pop(trampoline.key, None)

    def images(self) -> Sequence[TextImage]:
        """Return the images in use, by key."""
        found = sorted(self.by_key.items())
        return [item.generation.image for _, item in found if item.generation is not None]
