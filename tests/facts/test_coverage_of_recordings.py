"""How much of what Linux 6.12 was recorded to call is in the model: numbers that may only rise.

Functions are those that Linux 6.18 has in its BTF, so that programs could be on them at all; tracepoints are those of
the recorded events.
"""

import re
import tarfile
from functools import cache

import pytest
from recordings import DATA, known, trees

import ebpfsim
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux

# families of scenarios, and the shares (in percent) of functions, security hooks and tracepoints that are there
FAMILIES = {
    "files": ("file_", 98, 100, 100), "processes and signals": ("proc_", 86, 100, 100),
    "pipes and polling": ("pipe_|poll|epoll|eventfd", 98, 100, 100), "memory": ("mm_", 95, 100, 100),
    "mounts": ("mount|umount", 77, 100, 100), "bpf(2)": ("bpf_", 56, 100, 100),
}  # fmt: skip
ALL_FUNCTIONS, ALL_HOOKS, SYSTEM_CALLS = 74, 100, 208
_EVENT = re.compile(r"\S+\s+\S+\s+(?:(sys_\w+)(\(| ->)|(\w+):)")


@cache
def modelled() -> frozenset[str]:
    kernel = ebpfsim.Simulation(seed=1).host("h").kernel
    hooks = set()
    for name in {name for tree in trees().values() for name in tree if name.startswith("security_")}:
        try:
            getattr(kernel.functions, name)
        except ebpfsim.errors.NotModelled:
            continue
        hooks.add(name)
    return frozenset(kernel.functions.names()) | hooks


@cache
def fired() -> frozenset[str]:
    return frozenset(ebpfsim.Simulation(seed=1).host("h").kernel.tracepoints.fired)


@cache
def events() -> dict[str, frozenset[str]]:
    """Return the names of the tracepoints of each scenario."""
    found = {}
    with tarfile.open(DATA) as archive:
        for member in archive.getmembers():
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            file = archive.extractfile(member) if folder == "events" and name.endswith(".txt") else None
            if file is not None:
                matches = (_EVENT.match(line) for line in file.read().decode().splitlines())
                found[name.removesuffix(".txt")] = frozenset(
                    match[3] or f"sys_{'enter' if match[2] == '(' else 'exit'}_{match[1][4:]}"
                    for match in matches
                    if match
                )
    return found


def is_there(event: str, calls: frozenset[str]) -> bool:
    if event.startswith(("sys_enter_", "sys_exit_")):
        return event.split("_", 2)[2] in calls
    return event in fired()


def possible(names: set[str]) -> set[str]:
    return {name for name in names & known() if vmlinux().find(name, Kind.FUNC) is not None}


def percent(part: set[str] | frozenset[str], whole: set[str]) -> int:
    return 100 * len(part & whole) // max(1, len(whole))


@pytest.mark.parametrize("family", FAMILIES)
def test_coverage_only_rises(family: str) -> None:
    pattern, least, least_hooks, least_events = FAMILIES[family]
    names = possible({name for scenario, tree in trees().items() if re.match(pattern, scenario) for name in tree})
    hooks = {name for name in names if name.startswith("security_")}
    functions = names - hooks
    there, asked = percent(modelled(), functions), percent(modelled(), hooks)
    calls = frozenset(ebpfsim.Simulation(seed=1).host("h").kernel.syscalls.table)
    seen = {event for scenario, names in events().items() if re.match(pattern, scenario) for event in names}
    tracepoints = 100 * sum(is_there(event, calls) for event in seen) // max(1, len(seen))
    print(
        f"{family}: {there} % of {len(functions)} functions, {asked} % of {len(hooks)} security hooks, "
        f"{tracepoints} % of {len(seen)} tracepoints; without {sorted(e for e in seen if not is_there(e, calls))}"
    )
    assert (there >= least, asked >= least_hooks, tracepoints >= least_events) == (True, True, True)


def test_all_scenarios() -> None:
    names = possible({name for tree in trees().values() for name in tree})
    hooks = {name for name in names if name.startswith("security_")}
    there, asked = percent(modelled(), names - hooks), percent(modelled(), hooks)
    print(f"all scenarios: {there} % of {len(names - hooks)} functions, {asked} % of {len(hooks)} security hooks")
    assert (there >= ALL_FUNCTIONS, asked >= ALL_HOOKS) == (True, True), (there, asked)


def test_functions_and_calls_altogether() -> None:
    kernel = ebpfsim.Simulation(seed=1).host("h").kernel
    functions, calls = list(kernel.functions.names()), kernel.syscalls.table
    print(f"{len(functions)} functions, {len(calls)} system calls")
    assert len(functions) >= 250
    assert len(calls) >= SYSTEM_CALLS
