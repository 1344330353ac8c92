"""The two kernels of the unit tests: simulated, and live where bpf(2) is allowed."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errors import NotModelled

_UNIT = Path(__file__).resolve().parents[1] / "unit" / "ebpfsim" / "conftest.py"
_spec = importlib.util.spec_from_file_location("two_kernels", _UNIT)
assert _spec is not None
assert _spec.loader is not None
_two_kernels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_two_kernels)

kernel, make_kernel, live_bpf, bpf = (getattr(_two_kernels, n) for n in ("kernel", "make_kernel", "live_bpf", "bpf"))
nr_cpus, refused, keys_of, run_asm = (getattr(_two_kernels, n) for n in ("nr_cpus", "refused", "keys_of", "run_asm"))


@pytest.fixture
def modelled() -> Callable[..., Any]:
    """Make a call; skip the test where it is not modelled."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except NotModelled as error:
            pytest.skip(str(error))

    return call
