"""Tables of call paths: what they say, and that it can be called as the kernel's BTF has it."""

import pytest

import ebpfsim
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InternalError
from tracing.paths import all_paths, parse

TABLE = """
# a comment
filp_flush
    dnotify_flush
    !locks_remove_posix(filp, id)
mntget = mnt
d_walk x2
    select_collect
"""


def test_a_table() -> None:
    table = parse(TABLE)
    assert list(table) == ["filp_flush", "dnotify_flush", "locks_remove_posix", "mntget", "d_walk", "select_collect"]
    calls = table["filp_flush"].calls
    assert [(call.name, call.args, call.times, call.ends) for call in calls] == [
        ("dnotify_flush", None, 1, False),
        ("locks_remove_posix", ("filp", "id"), 1, True),
    ]
    assert table["mntget"].result == "mnt"


@pytest.mark.parametrize("text", ["a b c", "f\n    a\nf\n    b"])
def test_what_makes_no_sense(text: str) -> None:
    with pytest.raises(InternalError):
        parse(text)


def test_every_function_of_the_tables_can_be_made() -> None:
    functions = ebpfsim.Simulation(seed=1).host("a").kernel.functions
    for name in all_paths():
        assert vmlinux().find(name, Kind.FUNC) is not None, name
        assert callable(getattr(functions, name))


def test_arguments_are_found_by_their_types() -> None:
    kernel = ebpfsim.Simulation(seed=1).host("a").kernel
    seen = []
    functions = kernel.functions
    functions.__legitimize_mnt  # noqa: B018 - made when it is asked for
    functions.__dict__["__legitimize_mnt"] = lambda _cpu, mnt, seq: seen.append((mnt, seq)) or 0
    path = kernel.mem.alloc(16)
    kernel.mem.store(path, 8, 0x1234)
    assert functions.__legitimize_path(kernel.cpus[0], path, 7, 0) == 1
    # path->mnt
    assert seen == [(0x1234, 7)]
    assert functions.mntget(kernel.cpus[0], 0x55) == 0x55
