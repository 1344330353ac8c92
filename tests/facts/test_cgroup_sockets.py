"""Facts about programs of a control group and the sockets of its tasks, as Linux 6.12 told them call by call."""

import json
import os
import shlex
import subprocess
import sys
from typing import Any

import cgroup_worlds
import pytest

from ebpfsim import Simulation

VM = os.environ.get("EBPFSIM_VM", "")
LINUX: dict[str, list[Any]] = {
    "nothing": ["ok", 1, "x", "EINVAL", ["0.0.0.0", "any"], "ok", "ok"],
    "create 0": ["EPERM", "EPERM"],
    "create 1": ["ok", "ok"],
    "create, another errno": ["EACCES"],
    "create allows with an errno": ["EACCES"],
    "bind 0": ["ok", "EPERM", ["0.0.0.0", 0], "ok", "EPERM"],
    "bind 1": ["ok", "ok", ["127.0.0.1", 7001], "ok", "EADDRINUSE"],
    "bind 2": ["ok", "EPERM", ["0.0.0.0", 0], "ok", "EPERM"],
    "bind 3": ["ok", "ok", ["127.0.0.1", 7001], "ok", "EADDRINUSE"],
    "bind to another port": ["ok", "ok", ["127.0.0.1", 309]],
    "bind to another address": ["ok", "ok", ["127.0.0.2", 7001]],
    "post_bind 0": ["ok", "EPERM", ["0.0.0.0", 0], "ok", "EPERM"],
    "post_bind 1": ["ok", "ok", ["127.0.0.1", 7001], "ok", "EADDRINUSE"],
    "connect 0": ["ok", "EPERM", "EDESTADDRREQ", "EAGAIN", "ENOTCONN"],
    "connect 1": ["ok", "ok", 1, "x", ["127.0.0.1", 53]],
    "connect, another errno": ["ok", "ECONNREFUSED", "EDESTADDRREQ", "EAGAIN", "ENOTCONN"],
    "connect of TCP": ["ok", "EPERM"],
    "connect to another port": ["ok", "ok", 1, "x", ["127.0.0.1", 53]],
    "and the name given back": ["ok", "ok", 1, "x", ["127.0.0.1", 99]],
    "names that are refused": ["ok", "ok", ["127.0.0.1", 7002]],
    "another name": ["ok", "ok", ["127.0.0.1", 53]],
    "sendmsg 0": ["ok", "EPERM", "EAGAIN"],
    "sendmsg 1": ["ok", 1, "x"],
    "sendmsg of connected sockets": ["ok", "ok", 1, "x", ["127.0.0.1", 53]],
    "sendmsg to another port": ["ok", 1, "x"],
    "sendmsg, another errno": ["ok", "EINVAL", "EAGAIN"],
    "where it came from": ["ok", "ok", 1, ["127.0.0.1", 53]],
    "egress 0": ["ok", "EPERM", "EAGAIN"],
    "egress 1": ["ok", 1, "x"],
    "egress 2": ["ok", 1, "EAGAIN"],
    "egress 3": ["ok", 1, "x"],
    "ingress 0": ["ok", "ok", 1, "EAGAIN"],
    "ingress 1": ["ok", "ok", 1, "y"],
    "two programs, both asked": ["ok", "EACCES"],
    "two programs, the later one refuses": ["ok", "EACCES"],
    "release": ["ok", "ok", "ok"],
}


def close(said: list[Any]) -> list[Any]:
    """Leave out which port nobody chose."""
    return [[row[0], row[1] if row[1] < 32768 else "any"] if isinstance(row, list) else row for row in said]


@pytest.mark.parametrize("name", cgroup_worlds.CASES)
def test_calls_come_to_what_they_came_to_on_linux(name: str) -> None:
    world = cgroup_worlds.Simulated(Simulation(seed=1).host("h"))
    assert close(cgroup_worlds.play(world, name)) == LINUX[name]


@pytest.mark.vm
def test_a_kernel_to_be_thrown_away_says_the_same() -> None:
    command = [*shlex.split(VM), sys.executable, cgroup_worlds.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert {name: close(rows) for name, rows in said.items()} == LINUX
