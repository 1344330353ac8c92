"""What happened, in order: the one list that pcapng, reports, JSON and ``expect:`` read from."""

from dataclasses import dataclass, field

__all__ = ["Note", "PacketRecord", "ProgRun", "Recorder"]


@dataclass(slots=True)
class PacketRecord:
    """A frame at a device. ``direction`` is ``in`` or ``out``; ``verdict`` and ``reason`` come to be known later.

    ``verdict`` is an XDP action's name once a program has decided; ``reason`` says why the frame was dropped.
    ``packet`` is the same for every frame of one packet: on its way, forwarded, encapsulated, cloned or cut.
    """

    time_ns: int
    host: str
    device: str
    direction: str
    data: bytes
    queue: int = 0
    verdict: str = ""
    reason: str = ""
    packet: int = field(default=0, compare=False)


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
    """Keeps records in the order in which they happened; of packets and runs only when it ``keeps`` them."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.keeps = keeps
        self.packets: list[PacketRecord] = []
        self.runs: list[ProgRun] = []
        self.notes: list[Note] = []
        self._last_packet = 0

    def add(self, record: PacketRecord) -> PacketRecord:
        """Keep the record of a frame, which is a packet of its own until somebody says which one it is of."""
        self._last_packet += 1
        record.packet = self._last_packet
        if self.keeps:
            self.packets.append(record)
        return record

    def walk(self, packet: int) -> list[PacketRecord]:
        """Return where a packet was seen, in order: its frames at devices, with verdicts and the reason of its end."""
        return [record for record in self.packets if record.packet == packet]

    def tell(self, packet: int) -> str:
        """Return the walk of a packet as text, a line a frame."""
        lines = []
        for record in self.walk(packet):
            words = [f"{record.time_ns / 1000:12.3f} us", f"{record.host}/{record.device}", record.direction]
            words += [f"{len(record.data)} bytes"]
            words += [word for word in (record.verdict, record.reason and f"dropped: {record.reason}") if word]
            lines.append("  ".join(words))
        return "\n".join(lines)
