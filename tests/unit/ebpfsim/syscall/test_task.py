"""What capabilities allow: answers of Linux 6.18 to a task that had dropped the others."""

import pytest
from few_capabilities import ask_in_child, drop_others

from ebpfsim import Simulation
from ebpfsim.errors import InputError, KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

CODE = encode(assemble("r0 = 0; exit"))
SETS = [
    (),
    ("CAP_BPF",),
    ("CAP_NET_ADMIN",),
    ("CAP_PERFMON",),
    ("CAP_BPF", "CAP_NET_ADMIN"),
    ("CAP_BPF", "CAP_PERFMON"),
    ("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"),
    ("CAP_SYS_ADMIN",),
]
MAPS = [MapType.HASH, MapType.ARRAY, MapType.LRU_HASH, MapType.DEVMAP, MapType.SOCKHASH, MapType.CPUMAP, MapType.XSKMAP]
# types that this kernel loads without more than a program
PROGS = [
    *(ProgType.SOCKET_FILTER, ProgType.KPROBE, ProgType.SCHED_CLS, ProgType.TRACEPOINT, ProgType.XDP),
    *(ProgType.PERF_EVENT, ProgType.CGROUP_SKB, ProgType.CGROUP_SOCK, ProgType.LWT_IN, ProgType.SOCK_OPS),
    *(ProgType.SK_SKB, ProgType.CGROUP_DEVICE, ProgType.SK_MSG, ProgType.RAW_TRACEPOINT, ProgType.SK_REUSEPORT),
    *(ProgType.FLOW_DISSECTOR, ProgType.CGROUP_SYSCTL, ProgType.RAW_TRACEPOINT_WRITABLE),
]
IDS = ("map_get_next_id", "prog_get_next_id", "btf_get_next_id", "link_get_next_id")


def _answer(call, *arguments) -> str:
    try:
        call(*arguments)
    except KernelError as error:
        return error.errno_name
    return "ok"


def _answers(bpf, fd: int) -> dict[str, str]:
    found = {f"map {kind.name}": _answer(bpf.map_create, int(kind), 4, 4, 1) for kind in MAPS}
    found |= {f"prog {kind.name}": _answer(bpf.prog_load, int(kind), CODE) for kind in PROGS}
    found |= {name: _answer(getattr(bpf, name), 0) for name in IDS}
    found["btf_load"] = _answer(bpf.btf_load, b"no BTF at all")
    found["xlated"] = str(bpf.obj_get_info_by_fd(fd).xlated_prog_len)
    return found


def _ask_linux(caps: tuple[str, ...]) -> dict[str, str]:
    from ebpfsim.live import Bpf

    def question() -> dict[str, str]:
        bpf = Bpf()
        fd = bpf.prog_load(ProgType.XDP, CODE).fd
        drop_others(caps)
        return _answers(bpf, fd)

    answers: dict[str, str] = ask_in_child(question)
    return answers


@pytest.mark.live
@pytest.mark.parametrize("caps", SETS, ids=lambda caps: "+".join(caps) or "none")
def test_linux_answers_the_same(caps: tuple[str, ...]) -> None:
    host = Simulation().host("a")
    theirs = _ask_linux(caps)
    if theirs["map HASH"] == "ok" and not {"CAP_BPF", "CAP_SYS_ADMIN"} & set(caps):
        host = Simulation().host("a", sysctl={"kernel.unprivileged_bpf_disabled": 0})
    ours = _answers(host.bpf_as(caps), host.bpf.prog_load(ProgType.XDP, CODE).fd)
    if theirs["link_get_next_id"] == "ok":
        # somebody else has links there
        theirs["link_get_next_id"] = "ENOENT"
    assert ours == theirs


@pytest.mark.parametrize(
    ("sysctl", "caps", "answers"),
    [
        (2, (), ("EPERM", "EPERM", "EPERM")),
        (1, (), ("EPERM", "EPERM", "EPERM")),
        # include/linux/bpf.h: without the sysctl, hash tables and socket filters are for everybody
        (0, (), ("ok", "EPERM", "ok")),
        (2, ("CAP_BPF",), ("ok", "ok", "ok")),
        (2, ("CAP_BPF", "CAP_PERFMON"), ("ok", "ok", "ok")),
    ],
)
def test_the_sysctl_decides_for_tasks_without_capabilities(sysctl, caps, answers) -> None:
    bpf = Simulation().host("a", sysctl={"kernel.unprivileged_bpf_disabled": sysctl}).bpf_as(caps)
    assert answers == (
        _answer(bpf.map_create, MapType.HASH, 4, 4, 1),
        _answer(bpf.map_create, MapType.LRU_HASH, 4, 4, 1),
        _answer(bpf.prog_load, ProgType.SOCKET_FILTER, CODE),
    )


def test_descriptors_and_statistics_are_those_of_all_tasks() -> None:
    host = Simulation().host("a")
    fd = host.bpf.map_create(MapType.ARRAY, 4, 4, 1)
    user, admin = host.bpf_as(), host.bpf_as({"CAP_SYS_ADMIN"})
    user.map_update_elem(fd, bytes(4), b"abcd")
    assert host.bpf.map_lookup_elem(fd, bytes(4)) == b"abcd"
    stats = admin.enable_stats(0)
    assert host.bpf.stats_enabled
    host.bpf.close(stats)
    assert not host.bpf.stats_enabled
    assert user.caps != admin.caps


def test_programs_of_more_than_4096_instructions_are_for_cap_bpf() -> None:
    host = Simulation().host("a", sysctl={"kernel.unprivileged_bpf_disabled": 0})
    with pytest.raises(KernelError, match="4097 instructions, 1 to 4096 are allowed"):
        host.bpf_as().prog_load(ProgType.SOCKET_FILTER, CODE[:8] * 4096 + CODE[8:])


def test_names_of_capabilities() -> None:
    with pytest.raises(InputError, match="no capability 'CAP_BFP'; did you mean 'CAP_BPF'"):
        Simulation().host("a").bpf_as({"CAP_BFP"})
