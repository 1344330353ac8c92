"""The frames that a packet string stands for: as many as asked for, random parts drawn from the scenario's seed."""

from itertools import islice

from ebpfsim.errors import InputError
from ebpfsim.frames import Sender, build_frame
from ebpfsim.rng import Rng
from ebpfsim.scenario.layers import MAX_EXPANSION
from ebpfsim.scenario.packets import MAX_FRAME_BYTES, PacketExpr

__all__ = ["build_frames"]

ETH_HLEN = 14
MAX_TOTAL_BYTES = 64 * 1024 * 1024
_TOO_MUCH = f"packet string stands for more than {MAX_TOTAL_BYTES >> 20} MiB"


def build_frames(expr: PacketExpr, sender: Sender, rng: Rng, stream: str, count: int | None = None) -> list[bytes]:
    """Return ``count`` frames (as many as the string stands for when None), by turns; random ones are all different.

    ``stream`` names the random stream of this string. PacketError when a frame cannot be built.
    """
    with rng.lent(stream):
        frames = _expand(expr, sender)
        if count is None:
            return frames
        if not expr.random:
            return [frames[index % len(frames)] for index in range(count)]
        if count > MAX_EXPANSION:
            raise expr.error(f"fuzz makes at most {MAX_EXPANSION} packets, count is {count}")
        total = sum(map(len, frames))
        while len(frames) < count:
            more = _expand(expr, sender)
            total += sum(map(len, more))
            if total > MAX_TOTAL_BYTES:
                raise expr.error(_TOO_MUCH)
            frames += more
        return frames[:count]


def _expand(expr: PacketExpr, sender: Sender) -> list[bytes]:
    frames: list[bytes] = []
    total = 0
    for template in expr.templates():
        room = MAX_EXPANSION - len(frames)
        packets = list(islice(iter(template), room + 1))
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
