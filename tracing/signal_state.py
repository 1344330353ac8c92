"""What a task knows of signals: which wait for it, which it blocks, what it does about them (linux/signal.h)."""

from dataclasses import dataclass, field

__all__ = ["SIGCHLD", "SIGCONT", "SIGKILL", "SIGSTOP", "Action", "GroupSignals", "SignalState"]

SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGTERM = (
    3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15,
)  # fmt: skip
SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGWINCH, SIGSYS = (
    17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 31,
)  # fmt: skip
NSIG, SIGRTMIN = 64, 32
SIG_DFL, SIG_IGN = 0, 1
# what a signal does unless something else was said (SIG_KERNEL_*_MASK)
IGNORED = frozenset({SIGCONT, SIGCHLD, SIGWINCH, SIGURG})
STOPPING = frozenset({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU})
# what the CPU tells a task (SIL_FAULT)
FAULTS = frozenset({SIGILL, SIGTRAP, SIGFPE, SIGSEGV, SIGBUS})
DUMPING = frozenset({SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ})
ONLY_KERNEL = frozenset({SIGKILL, SIGSTOP})
# handled before all others, as they come from what the task did itself
SYNCHRONOUS = (SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)


@dataclass(frozen=True, slots=True)
class Action:
    """What a process does about a signal (``struct k_sigaction``)."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


@dataclass(slots=True)
class GroupSignals:
    """What the threads of a process share: signals for any of them, actions, and what the process ends with."""

    pending: dict[int, int] = field(default_factory=dict)
    actions: dict[int, Action] = field(default_factory=dict)
    exit_code: int | None = None
    stopped: bool = False
    # of kill(2) for groups, and of sessions
    pgid: int = 0
    sid: int = 0


class SignalState:
    """The signals of one thread: those that wait have the address of their ``struct kernel_siginfo``, 0 without one."""

    __slots__ = ("blocked", "group", "killed", "pending", "saved")

    def __init__(self, group: GroupSignals | None) -> None:
        self.group = group or GroupSignals()
        self.pending: dict[int, int] = {}
        self.blocked = 0
        # the mask that comes back when a handler was run (sigsuspend)
        self.saved: int | None = None
        self.killed = False

    @property
    def waiting(self) -> bool:
        """Whether a signal waits that is not blocked (TIF_SIGPENDING)."""
        if self.killed or self.group.exit_code is not None:
            return True
        if not self.pending and not self.group.pending:
            return False
        return any(not self.blocked >> sig - 1 & 1 for sig in (*self.pending, *self.group.pending))

    def next(self) -> int:
        """Return the signal that is handled next, 0 when there is none: those for the thread itself come first."""
        for pending in (self.pending, self.group.pending):
            ready = [sig for sig in pending if not self.blocked >> sig - 1 & 1]
            for sig in SYNCHRONOUS:
                if sig in ready:
                    return sig
            if ready:
                return min(ready)
        return 0

    def action(self, sig: int) -> Action:
        """Return what the process does about a signal."""
        return self.group.actions.get(sig, _DEFAULT)

    def ignores(self, sig: int) -> bool:
        """Whether a signal does nothing to the process (sig_handler_ignored)."""
        handler = self.action(sig).handler
        return handler == SIG_IGN or (handler == SIG_DFL and sig in IGNORED)

    def is_fatal(self, sig: int) -> bool:
        """Whether a signal ends the process."""
        return sig not in IGNORED | STOPPING and self.action(sig).handler == SIG_DFL


_DEFAULT = Action()
