"""Attaching to user space as libbpf does: by SEC(), by name and offset, to static tracepoints."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError, KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.simulation import Host
from ebpfsim.uapi.bpf import ProgType

REQUESTS = Path(__file__).resolve().parents[3] / "scenarios" / "bpf" / "requests.bpf.o"
SHOP = "/usr/bin/shop"
NO_INDEX = {"idx_reg_off": 0, "scale_bitshift": 0, "reserved": 0}
STEPS = [
    {"call": [f"{SHOP}:handle", 7, "apples"], "returns": 3, "takes": "5us"},
    {"usdt": [f"{SHOP}:shop:refused", 8, -2]},
]


@pytest.fixture
def host() -> Host:
    host = Simulation(seed=1).host("h")
    host.user_binary(SHOP, ["main", "handle"], usdt={"shop:refused": ["8@%rdi", "-4@-20(%rbp)"]})
    return host


def test_sections_say_where_programs_go(host: Host) -> None:
    obj = host.load(REQUESTS)
    links = obj.attach()
    assert list(links) == ["enter", "leave", "refuse"]
    host.spawn("shop", steps=STEPS)
    host.sim.run()
    assert [link.runs for link in links.values()] == [1, 1, 1]
    # the argument with a sign, of four bytes in memory
    assert dict(obj.maps["refused"].items()) == {-2: 1}
    # as libbpf 1.8 fills it in: places, cookie, number of arguments
    spec = obj.maps["__bpf_usdt_specs"][0]
    assert spec["args"][:2] == [
        {"val_off": 0, "arg_type": 1, "reg_off": 112, "arg_signed": False, "arg_bitshift": 0, **NO_INDEX},
        {"val_off": (1 << 64) - 20, "arg_type": 2, "reg_off": 32, "arg_signed": True, "arg_bitshift": 32, **NO_INDEX},
    ]
    assert (spec["usdt_cookie"], spec["arg_cnt"]) == (0, 2)


def test_arguments_behind_an_index() -> None:
    host = Simulation(seed=1).host("h")
    # the index comes first, so that it is known where the other argument lies
    host.user_binary(SHOP, ["main", "handle"], usdt={"shop:refused": ["8@%rax", "-4@-96(%rbp,%rax,8)"]})
    obj = host.load(REQUESTS)
    obj.attach()
    host.spawn("shop", steps=[{"usdt": [f"{SHOP}:shop:refused", 5, -7]}])
    host.sim.run()
    assert dict(obj.maps["refused"].items()) == {-7: 1}
    spec = obj.maps["__bpf_usdt_specs"][0]["args"][1]
    assert (spec["arg_type"], spec["reg_off"], spec["idx_reg_off"], spec["scale_bitshift"]) == (3, 32, 80, 3)


def program(host: Host, expected: int = 0) -> int:
    fd: int = host.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit")), expected_attach_type=expected).fd
    return fd


def test_programs_are_found_where_the_shell_finds_them(host: Host) -> None:
    link = host.attach_uprobe(program(host), "shop", "handle")
    assert link.info()["file_name"] == SHOP
    by_offset = host.attach_uprobe(program(host), SHOP, host.kernel.uprobes.binaries[SHOP].functions["handle"].offset)
    host.spawn("shop", steps=STEPS)
    host.sim.run()
    assert (link.runs, by_offset.runs) == (1, 1)


def test_patterns_name_functions(host: Host) -> None:
    link = host.attach_uprobe_multi(program(host, 48), SHOP, "*a*")
    assert link.info()["count"] == 2
    with pytest.raises(KernelError, match="no function of '/usr/bin/shop' matches 'x\\*'"):
        host.attach_uprobe_multi(program(host, 48), SHOP, "x*")


def test_what_does_not_exist(host: Host) -> None:
    obj = host.load(REQUESTS)
    refuse = obj.programs["refuse"]
    with pytest.raises(KernelError, match="no tracepoint 'shop:refuse'; did you mean 'shop:refused'"):
        host.attach_usdt(refuse, obj, SHOP, "shop", "refuse")
    with pytest.raises(KernelError, match="no binary '/bin/shop'"):
        host.attach_usdt(refuse, obj, "/bin/shop", "shop", "refused")
    with pytest.raises(InputError, match="is not PATH:FUNCTION"):
        host.attach_to_user("uprobe", refuse, "handle", obj, "")
    with pytest.raises(InputError, match="PROVIDER:NAME"):
        host.user_binary("/bin/x", usdt={"nothing": []})
