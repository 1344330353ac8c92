"""Tables of functions in the hands of users (bpf_map__attach_struct_ops of libbpf 1.8)."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError, KernelError

OBJECT = Path(__file__).resolve().parents[2] / "data" / "bpf" / "struct_ops.bpf.o"


@pytest.fixture
def host():
    return Simulation(seed=1).host("h")


@pytest.fixture
def obj(host):
    """``first`` registers itself, ``second`` is for links; ssthresh returns 2 and undo_cwnd 3."""
    return host.load(OBJECT)


def names(host) -> list[str]:
    return host.kernel.tcp_ca.available[2:]


def test_obj_attach_registers_tables(host, obj) -> None:
    links = obj.attach()
    assert list(links) == ["first", "second"]
    assert names(host) == ["bpf_first", "bpf_second"]
    for name, link in links.items():
        ops = host.kernel.tcp_ca.find(f"bpf_{name}")
        assert ops.call("undo_cwnd", host.kernel.cpus[0], 0) == 3
        assert link.runs == 1
        link.close()
        link.close()
    assert names(host) == []


def test_obj_attach_takes_back_what_it_attached_when_one_is_refused(host, obj) -> None:
    with host.load(OBJECT) as other, host.attach_struct_ops(other.struct_ops["second"]):
        with pytest.raises(KernelError, match="already registered"):
            obj.attach()
        assert names(host) == ["bpf_second"]


def test_a_table_without_a_link(host, obj) -> None:
    with host.attach_struct_ops(obj.struct_ops["first"], label="cc") as table:
        assert (table.label, table.id) == ("cc", obj.maps["first"].id)
        host.kernel.tcp_ca.find("bpf_first").call("ssthresh", host.kernel.cpus[0], 0)
        assert [run.link for run in host.kernel.recorder.runs] == ["cc"]
        with pytest.raises(KernelError, match="EBUSY"):
            host.attach_struct_ops(obj.struct_ops["first"])
        table.detach()
        with pytest.raises(KernelError, match="EINPROGRESS"):
            table.detach()
    assert names(host) == []


def test_a_link_is_pinned_and_attached_again(host, obj) -> None:
    table = obj.struct_ops["second"]
    with host.attach_struct_ops(table, label="cc") as link:
        assert (link.label, link.info()["map_id"]) == ("cc", obj.maps["second"].id)
        link.pin("/sys/fs/bpf/cc")
    assert names(host) == ["bpf_second"]
    host.bpf.bpffs.unlink("/sys/fs/bpf/cc")
    assert names(host) == []
    # the map keeps its value: EBUSY of the second update is no error
    with host.attach_struct_ops(table):
        assert names(host) == ["bpf_second"]


def test_replace_and_detach(host, obj) -> None:
    newer = host.open(OBJECT)
    newer.struct_ops["second"]["flags"] = 2
    newer.load()
    link = host.attach_struct_ops(obj.struct_ops["second"])
    link.replace(newer.struct_ops["second"])
    assert (names(host), host.kernel.tcp_ca.find("bpf_second").flags) == (["bpf_second"], 2)
    with pytest.raises(InputError, match="link 1 attaches no program"):
        link.update(obj.programs["thresh"])
    link.detach()
    assert names(host) == []
    with pytest.raises(KernelError, match="ENOLINK"):
        link.replace(obj.struct_ops["second"])
