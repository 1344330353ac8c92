"""What the running Linux answers, as a script: ``linux_answers.py FAMILY:FIRST_SEED:COUNT...`` and ``facts``.

Walks in a network namespace attach to devices that are made for them. The others, and ``facts``, attach to functions
and control groups of the machine: for a Linux to be thrown away, which ``EBPFSIM_THROWAWAY=1`` says. One line of JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "unit" / "hooks")]

import cgroup_steps  # noqa: E402
import live_xdp_attach  # noqa: E402
import netns_steps  # noqa: E402
import replace_steps  # noqa: E402
import tc_steps  # noqa: E402
import tcx_steps  # noqa: E402
import trace_steps  # noqa: E402
import tracing_facts  # noqa: E402
import walks  # noqa: E402

from ebpfsim.live import Bpf  # noqa: E402
from ebpfsim.live.sys import libc  # noqa: E402

CLONE_NEWNET = 0x4000_0000


def tcx(bpf: Any, steps: list[list[Any]]) -> list[Any]:
    """Do steps of tcx on a fresh place."""
    place = tcx_steps.Place(bpf)
    said = [walks.tolerant(place.step, *step) for step in steps]
    for name in list(place.links):
        place.step("close", name)
    for name in place.progs:
        place.step("detach", name)
    return said


def answer(family: str) -> Callable[[list[list[Any]]], list[Any]]:
    """Return what does the steps of a family."""
    if family in walks.LIVE:
        bpf = Bpf()
        assert libc().unshare(CLONE_NEWNET) == 0
        return {
            "xdp": live_xdp_attach.answers,
            "tcx": lambda steps: tcx(bpf, steps),
            "tc": lambda steps: tc_steps.answers(tc_steps.Linux(bpf), steps),
            "netns": lambda steps: netns_steps.answers(bpf, lambda: os.open("/proc/self/ns/net", os.O_RDONLY), steps),
        }[family]
    if os.environ.get("EBPFSIM_THROWAWAY") != "1":
        raise SystemExit(f"{family}: this attaches to the machine; EBPFSIM_THROWAWAY=1 says that it is thrown away")
    if family == "cgroup":
        groups = cgroup_steps.Linux()
        return lambda steps: cgroup_steps.answers(groups, steps)
    if family == "replace":
        anywhere = Bpf(confined=False)
        return lambda steps: replace_steps.answers(anywhere, steps)
    linux = trace_steps.Linux()
    return lambda steps: trace_steps.answers(linux, steps)


def main(*wanted: str) -> None:
    """Answer what is asked for on the command line."""
    found: dict[str, Any] = {"kernel": os.uname().release}
    for what in wanted:
        if what == "facts":
            assert os.environ.get("EBPFSIM_THROWAWAY") == "1"
            found[what] = tracing_facts.answers(trace_steps.Linux())
            continue
        family, first, count = what.split(":")
        do = answer(family)
        seeds = range(int(first), int(first) + int(count))
        found[what] = [do(walks.walk(family, seed)) for seed in seeds]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
