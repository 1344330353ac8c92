"""The frames that a packet string stands for: as many as asked for, random parts drawn from the scenario's seed."""

from itertools import islice

from ebpfsim.errors import InputError
from ebpfsim.frames import Sender, build_frame
from ebpfsim.rng import Rng
from ebpfsim.scenario.layers import MAX_EXPANSION, without_lookups
from ebpfsim.scenario.packets import MAX_FRAME_BYTES, PacketExpr

__all__ = ["build_frames"]

ETH_HLEN = 14
MAX_TOTAL_BYTES = 64 * 1024 * 1024
_TOO_MUCH = f"packet string stands for more than {MAX_TOTAL_BYTES >> 20} MiB"


def build_frames(expr: PacketExpr, sender: Sender, rng: Rng, stream: str, count: int = 1) -> tuple[list[bytes], int]:
    """Return frames and how often to send them in turn, so that all the string stands for is sent ``count`` times.

    Random frames are drawn anew each time. ``stream`` names their random stream. PacketError when one cannot be built.
    """
    with rng.lent(stream), without_lookups():
        if not expr.random:
            return _expand(expr, sender), count
        frames: list[bytes] = []
        total = 0
        for _ in range(count):
            more = _expand(expr, sender)
            total += sum(map(len, more))
            if len(more) * count > MAX_EXPANSION or total > MAX_TOTAL_BYTES:
                raise expr.error(
                    f"fuzz makes at most {MAX_EXPANSION} packets and {MAX_TOTAL_BYTES >> 20} MiB", "a lower count"
                )
            frames += more
        return frames, 1


def _expand(expr: PacketExpr, sender: Sender) -> list[bytes]:
    frames: list[bytes] = []
    total = 0
    for template in expr.templates():
        room = MAX_EXPANSION - len(frames)
        try:
            packets = list(islice(iter(template), room + 1))
        except Exception as error:  # whatever scapy raises for values that it cannot expand
            raise expr.error(f"packet cannot be built: {error}") from None
        if len(packets) > room:
            raise expr.error(f"packet string stands for more than {MAX_EXPANSION} packets")
        for packet in packets:
            try:
                frame = build_frame(packet, sender)
            except InputError as error:
                raise expr.error(error.problem) from None
            if not ETH_HLEN <= len(frame) <= MAX_FRAME_BYTES:
                problem = f"frame has {len(frame)} bytes, expected {ETH_HLEN} to {MAX_FRAME_BYTES}"
                raise expr.error(problem, "start with Ether()")
            frames.append(frame)
            total += len(frame)
            if total > MAX_TOTAL_BYTES:
                raise expr.error(_TOO_MUCH)
    return frames
