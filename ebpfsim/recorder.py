"""What happened, in order: the one list that pcapng, reports, JSON and ``expect:`` read from."""

from dataclasses import dataclass, field

__all__ = ["Note", "PacketRecord", "ProgRun", "Recorder"]


@dataclass(slots=True)
class PacketRecord:
    """A frame at a device. ``direction`` is ``in`` or ``out``; ``verdict`` and ``reason`` come to be known later.

    ``verdict`` is an XDP action's name once a program has decided; ``reason`` says why the frame was dropped.
    """

    time_ns: int
    host: str
    device: str
    direction: str
    data: bytes
    queue: int = 0
    verdict: str = ""
    reason: str = ""


# not frozen: one is made for every packet, and a frozen one takes six times as long to make
@dataclass(slots=True)
class ProgRun:
    """One run of a program on a hook. ``tail_calls`` counts the hops that were taken; ``cost_ps`` covers the body."""

    time_ns: int
    host: str
    cpu: int
    hook: str
    device: str
    link: str
    prog_id: int
    prog: str
    retval: int
    verdict: str
    insns: int
    cost_ps: int
    tail_calls: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """Anything else: an attachment, a dispatcher rebuilt, a link down. ``kind`` is a short fixed word."""

    time_ns: int
    host: str
    kind: str
    text: str
    details: dict[str, int | str] = field(default_factory=dict)


class Recorder:
    """Keeps records in the order in which they happened."""

    def __init__(self) -> None:
        self.packets: list[PacketRecord] = []
        self.runs: list[ProgRun] = []
        self.notes: list[Note] = []
