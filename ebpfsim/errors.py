"""Every exception that ebpfsim raises, as one tree.

::

    EbpfSimError
      InputError(where, problem, hint)       a file or text of the user is wrong
        AsmError  DecodeError  ElfError  BtfError  ScenarioError
      KernelError(op, errno, detail)         the simulated kernel said no, as bpf(2) would
        VerifierError(log, insn_idx)         the verifier refused a program; keeps the whole log
      KernelOops(reason, prog, insn_idx)     the simulated kernel crashed
      NotModelled(feature, source)           Linux does this, ebpfsim does not yet
      InternalError(problem, seed)           our bug
"""

from ebpfsim.errnos import errno_name, strerror

__all__ = [
    "AsmError",
    "BtfError",
    "DecodeError",
    "EbpfSimError",
    "ElfError",
    "InputError",
    "InternalError",
    "KernelError",
    "KernelOops",
    "NotModelled",
    "ScenarioError",
    "VerifierError",
]


# errors of one file in words; the machine form has all
MAX_SHOWN = 50


class EbpfSimError(Exception):
    """Anything that ebpfsim raises on purpose.

    ``at`` is the place in a scenario, ``path:line:col``, that led to it, and ``at_line`` that line with a caret line
    below it (may be empty); the scenario runner fills them in.
    """

    at: str = ""
    at_line: str = ""


class InputError(EbpfSimError):
    """A file or text of the user is wrong.

    ``where`` is ``path:line:col``, ``path: section .text+0x10`` or the like; ``problem`` says what it has and what it
    wants; ``hint`` what to try (may be empty); ``source`` the offending line with a caret line below it (may be empty).
    """

    def __init__(self, where: str, problem: str, hint: str = "", source: str = "") -> None:
        self.where, self.problem, self.hint, self.source = where, problem, hint, source
        super().__init__(where, problem, hint)

    def __str__(self) -> str:
        text = f"{self.where}: error: {self.problem}" if self.where else f"error: {self.problem}"
        if self.source:
            text += f"\n{self.source}"
        if self.hint:
            text += f"\ntry: {self.hint}"
        return text


class AsmError(InputError):
    """Text that the assembler does not understand."""


class DecodeError(InputError):
    """Bytes that are no BPF instruction."""


class ElfError(InputError):
    """A file that is no loadable BPF object."""


class BtfError(InputError):
    """BTF that is malformed."""


class ScenarioError(InputError):
    """A scenario file that is wrong. ``others`` are further errors of the same file, in the order of its lines."""

    def __init__(
        self, where: str, problem: str, hint: str = "", source: str = "", others: "tuple[InputError, ...]" = ()
    ) -> None:
        super().__init__(where, problem, hint, source)
        self.others = others

    def __str__(self) -> str:
        shown = [super().__str__(), *(str(other) for other in self.others[: MAX_SHOWN - 1])]
        if len(self.others) >= MAX_SHOWN:
            shown.append(f"and {len(self.others) - MAX_SHOWN + 1} more errors")
        return "\n".join(shown)


class KernelError(EbpfSimError):
    """The simulated kernel refused a call: what bpf(2) or another system call would have returned.

    ``op`` names the call, ``errno`` is positive, ``detail`` (may be empty) says what led to it.
    """

    def __init__(self, op: str, errno: int, detail: str = "") -> None:
        self.op, self.errno, self.detail = op, int(errno), detail
        super().__init__(op, self.errno, detail)

    @property
    def strerror(self) -> str:
        """glibc's text for the errno."""
        return strerror(self.errno)

    @property
    def errno_name(self) -> str:
        """The errno's name, for instance ``EINVAL``."""
        return errno_name(self.errno)

    def __str__(self) -> str:
        text = f"{self.op}: {self.strerror} ({self.errno_name})"
        return f"{text}: {self.detail}" if self.detail else text


class VerifierError(KernelError):
    """The verifier refused a program. ``log`` is the kernel's text at the asked level, ``insn_idx`` the slot or -1."""

    def __init__(self, op: str, errno: int, log: str, insn_idx: int = -1) -> None:
        self.log, self.insn_idx = log, insn_idx
        super().__init__(op, errno, "")

    @property
    def reason(self) -> str:
        """The line of the log that gives the reason: the last one before the statistics."""
        lines = [line for line in self.log.splitlines() if line and not _is_statistics(line)]
        return lines[-1] if lines else ""

    def head(self, count: int) -> str:
        """Return the first ``count`` lines of the log."""
        return "\n".join(self.log.splitlines()[:count])

    def tail(self, count: int) -> str:
        """Return the last ``count`` lines of the log."""
        return "\n".join(self.log.splitlines()[-count:])

    def __str__(self) -> str:
        text = f"{self.op}: {self.strerror} ({self.errno_name})"
        omitted = len(self.log.splitlines()) - 1
        if self.reason:
            text += f": {self.reason}"
        return f"{text} ({omitted} lines omitted)" if omitted > 0 else text


def _is_statistics(line: str) -> bool:
    return line.startswith(("processed ", "verification time ", "stack depth "))


class KernelOops(EbpfSimError):
    """The simulated kernel crashed: a wild access, a deadlock, a runaway program.

    ``prog`` is the program's name, ``insn_idx`` the slot that faulted (-1 outside programs), ``address`` the address.
    Engines add ``line``, the place in the C source and its text where the program has line info, and ``registers``,
    R0 to R10 as they were. ``about`` says in debug mode which object was missed, and by how much.
    """

    def __init__(
        self, reason: str, prog: str = "", insn_idx: int = -1, address: int | None = None, about: str = ""
    ) -> None:
        self.reason, self.prog, self.insn_idx, self.address = reason, prog, insn_idx, address
        self.about = about
        self.line = ""
        self.registers: tuple[int, ...] = ()
        super().__init__(reason, prog, insn_idx, address)

    def __str__(self) -> str:
        text = f"kernel oops: {self.reason}"
        if self.prog:
            text += f" in program '{self.prog}'"
        if self.insn_idx >= 0:
            text += f" at insn {self.insn_idx}"
        if self.address is not None:
            text += f", address {self.address:#x}"
        return "\n  ".join(part for part in (text, self.line, self.about) if part)

    def details(self) -> str:
        """Return the registers, four to a line; nothing when they are not known."""
        words = [f"R{number} {value:016x}".rjust(20) for number, value in enumerate(self.registers)]
        return "\n".join(" ".join(words[at : at + 4]) for at in range(0, len(words), 4))


class NotModelled(EbpfSimError):
    """Linux does this, ebpfsim does not yet. ``feature`` names the construct, ``source`` where Linux has it."""

    def __init__(self, feature: str, source: str = "") -> None:
        self.feature, self.source = feature, source
        super().__init__(feature, source)

    def __str__(self) -> str:
        return f"not modelled: {self.feature}" + (f" ({self.source})" if self.source else "")


class InternalError(EbpfSimError):
    """Our bug. ``problem`` says which promise was broken, ``seed`` how to see it again."""

    def __init__(self, problem: str, seed: int | None = None) -> None:
        self.problem, self.seed = problem, seed
        super().__init__(problem, seed)

    def __str__(self) -> str:
        replay = f"; replay with seed {self.seed}" if self.seed is not None else ""
        return f"internal error: {self.problem}{replay}"
