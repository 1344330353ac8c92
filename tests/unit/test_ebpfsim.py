"""The package's face."""

import subprocess
import sys

import pytest


def test_unknown_name_is_an_attribute_error() -> None:
    import ebpfsim

    with pytest.raises(AttributeError, match="module 'ebpfsim' has no attribute 'Simulator'"):
        ebpfsim.Simulator  # type: ignore[attr-defined]  # noqa: B018


def test_import_alone_loads_neither_scapy_nor_the_simulator() -> None:
    code = (
        "import sys, ebpfsim\n"
        "print([name for name in ('scapy', 'simpy', 'pydantic', 'ebpfsim.kernel', 'netstack') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
