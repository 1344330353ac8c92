"""ebpfsim: a deterministic, full-system emulator of Linux's BPF subsystem.

::

    import ebpfsim

    sim = ebpfsim.Simulation(seed=1)
    host = sim.host("a")

Public names are imported when they are first used, so that ``import ebpfsim`` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

from ebpfsim.errors import (
    AsmError,
    BtfError,
    DecodeError,
    EbpfSimError,
    ElfError,
    InputError,
    InternalError,
    KernelError,
    KernelOops,
    NotModelled,
    ScenarioError,
    VerifierError,
)

if TYPE_CHECKING:
    from ebpfsim import live, uapi
    from ebpfsim.loader import Object
    from ebpfsim.simulation import Host, Simulation

__version__ = "0.1.0"

__all__ = [
    "AsmError",
    "BtfError",
    "DecodeError",
    "EbpfSimError",
    "ElfError",
    "Host",
    "InputError",
    "InternalError",
    "KernelError",
    "KernelOops",
    "NotModelled",
    "Object",
    "ScenarioError",
    "Simulation",
    "VerifierError",
    "__version__",
    "live",
    "uapi",
]

_LAZY = {
    "Host": "ebpfsim.simulation",
    "Object": "ebpfsim.loader",
    "Simulation": "ebpfsim.simulation",
}

# modules that users name through the package
_MODULES = ("live", "uapi")


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name in _MODULES:
        return importlib.import_module(f"ebpfsim.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'ebpfsim' has no attribute '{name}'")
    from ebpfsim import _siblings

    _siblings.check()
    found = globals()[name] = getattr(importlib.import_module(module), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
