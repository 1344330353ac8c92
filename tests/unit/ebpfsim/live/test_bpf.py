"""The live kernel has the interface of the simulated one."""

import inspect

import pytest

from ebpfsim.live import Bpf as LiveBpf
from ebpfsim.syscall import Bpf

# ways to attach that reach beyond what is safe on a live kernel, or that the simulated one does not serve either
SIMULATED_ONLY = {
    "bpffs",
    "iter_create",
    "prog_attach",
    "prog_detach",
    "prog_query",
    "raw_tracepoint_open",
    "stats_enabled",
    "token_create",
}


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_names() -> None:
    assert public(Bpf) - public(LiveBpf) <= SIMULATED_ONLY
    assert public(LiveBpf) - public(Bpf) == {"confined", "map_bytes_limit"}


@pytest.mark.parametrize("name", sorted(public(Bpf) & public(LiveBpf)))
def test_signatures(name) -> None:
    simulated, live = (inspect.signature(getattr(cls, name)) for cls in (Bpf, LiveBpf))
    assert simulated == live
