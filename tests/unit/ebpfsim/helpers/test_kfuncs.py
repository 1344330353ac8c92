"""The sets of kernel functions against what Linux 6.18 let programs of each type call (kfunc_sets.json).

``all`` is what every type may call; other rows say what programs of those types (type and attach type) may call beyond.
Attaching to functions was not possible where it was asked: struct_ops, LSM and fentry are missing.
"""

import json
from pathlib import Path

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.helpers.kfuncs import KFUNCS, kfunc_allowed
from ebpfsim.uapi.bpf import ProgType

SETS = json.loads((Path(__file__).parents[3] / "data" / "verifier" / "kfunc_sets.json").read_text())
BY_TYPE = {kind: set(row["names"]) for row in SETS for kind in row["types"]}


@pytest.mark.parametrize("kind", sorted(BY_TYPE.keys() - {"all"}))
def test_functions_of_a_type(kind: str) -> None:
    prog_type, attach_type = (int(word) for word in kind.split())
    allowed = {name for name in KFUNCS if kfunc_allowed(name, ProgType(prog_type), attach_type)}
    assert allowed == BY_TYPE["all"] | BY_TYPE[kind]


def test_every_function_is_one_of_the_kernel() -> None:
    assert not [name for name in KFUNCS if not vmlinux().find(name, Kind.FUNC)]


def test_others_may_not_be_called() -> None:
    assert not kfunc_allowed("schedule", ProgType.TRACING, 0)
