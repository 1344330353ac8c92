"""The class that users see."""

from ebpfsim.live.links import LiveLinks
from ebpfsim.live.maps import LiveMaps
from ebpfsim.live.progs import LivePrograms
from ebpfsim.live.raw import LiveRaw
from ebpfsim.live.sys import require_linux
from ebpfsim.syscall.unserved import UnservedCalls

__all__ = ["Bpf"]


class Bpf(LiveMaps, LivePrograms, LiveLinks, LiveRaw, UnservedCalls):
    """bpf(2) of this machine, with the names and signatures of ``host.bpf``.

    Built-in safety: maps of more than 64 MiB are refused before the kernel hears of them, and so are attachments
    outside a network namespace made for the purpose. With ``confined`` False anything may be attached anywhere, which
    is for machines that are thrown away.
    """

    def __init__(self, *, map_bytes_limit: int | None = 64 << 20, confined: bool = True) -> None:
        require_linux()
        super().__init__()
        self.confined = confined
        self.map_bytes_limit = map_bytes_limit
