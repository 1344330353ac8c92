"""A program of a route as users hold it."""

import pytest

from ebpfsim import Simulation
from ebpfsim.attached_lwt import AttachedLwt
from ebpfsim.errors import InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


def test_names_and_ends() -> None:
    host = Simulation(seed=1).host("h")
    host.nic("eth0", ["10.0.0.1/24"])
    progs = [host.prog(host.bpf.prog_load(ProgType.LWT_OUT, encode(assemble("r0 = 0; exit"))).fd) for _ in range(2)]
    host.net.add_route("default", via="10.0.0.2")
    with AttachedLwt(host, "default", "lwt_out", progs[0], "mine") as link:
        assert (link.label, link.runs, link.stats.runs, str(link)) == ("mine", 0, 0, "<AttachedLwt mine>")
        link.label = "yours"
        assert link.label == "yours"
        other = AttachedLwt(host, "default", "lwt_out", progs[1])
        with pytest.raises(InputError, match=r"not at default via 10\.0\.0\.2 dev eth0 any more"):
            link.detach()
    other.close()
    other.close()
    assert [prog.refs for prog in progs] == [1, 1]


def test_prefixes_that_are_none() -> None:
    host = Simulation(seed=1).host("h")
    prog = host.prog(host.bpf.prog_load(ProgType.LWT_OUT, encode(assemble("r0 = 0; exit"))).fd)
    with pytest.raises(InputError, match=r"route to '10\.0\.0\.0/33'"):
        AttachedLwt(host, "10.0.0.0/33", "lwt_out", prog)
