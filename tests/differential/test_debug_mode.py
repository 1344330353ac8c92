"""Debug mode has nothing to say of the scenarios that ship, and changes nothing: reports and digests are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from debug_lines import LINE, line_info

import ebpfsim
from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
NAMES = sorted(str(path.relative_to(SCENARIOS).with_suffix("")) for path in SCENARIOS.rglob("*.yaml"))


def summary(name: str, *overrides: str, debug: bool = False, engine: str = "") -> Any:
    from ebpfsim.report.summary import summarize
    from ebpfsim.scenario.check import check_scenario
    from ebpfsim.scenario.expect import judge
    from ebpfsim.scenario.load import load_scenario
    from ebpfsim.scenario.run import build, finish
    from ebpfsim.scenario.steps import schedule

    checked = check_scenario(load_scenario(name, list(overrides), None))
    running = build(checked, debug=debug, engine=engine)
    for host in running.sim.hosts.values():
        assert host.kernel.config.debug == (debug or bool(overrides))
        assert host.kernel.config.engine == (engine or "auto")
    schedule(running)
    finish(running, checked.scenario.model.until)
    return json.loads(json.dumps(summarize(running, judge(running))))


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("name", NAMES)
def test_shipped_scenarios_are_clean(name: str, engine: str) -> None:
    plain = summary(name, engine=engine)
    assert plain["met"]
    assert summary(name, engine=engine, debug=True) == plain


def test_a_scenario_says_so_itself() -> None:
    name = "first-steps/xdp-firewall"
    assert summary(name, "kernel.debug=true") == summary(name)


# the verifier lets programs use a value that they have deleted, as its memory stays while they run; but it may be the
# next element's by then
USES_A_DELETED_VALUE = """
    *(u32 *)(r10 - 4) = 1
    *(u64 *)(r10 - 16) = 7
    r1 = map[fd:{0}] ll
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_update_elem
    r1 = map[fd:{0}] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r6 = r0
    r1 = map[fd:{0}] ll
    r2 = r10
    r2 += -4
    call bpf_map_delete_elem
    r0 = *(u64 *)(r6 + 0)
out:
    r0 &= 1
    exit
"""


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("map_type", [MapType.HASH, MapType.LRU_HASH])
def test_a_verified_program_that_uses_a_value_after_it_deleted_it(engine: str, map_type: MapType) -> None:
    for debug in (False, True):
        sim = ebpfsim.Simulation()
        bpf = sim.host("h", engine=engine, debug=debug).bpf
        fd = bpf.map_create(map_type, 4, 8, 4, name="flows")
        insns = assemble(USES_A_DELETED_VALUE.format(fd))
        use = len(insns) - 3
        btf, func_info, lines = line_info(use)
        btf_fd = bpf.btf_load(btf)
        loaded = bpf.prog_load(
            ProgType.XDP, encode(insns), name="flow", prog_btf_fd=btf_fd, func_info=func_info, line_info=lines
        )
        if not debug:
            assert bpf.prog_test_run(loaded.fd, bytes(64)).retval == 1
            continue
        with pytest.raises(KernelOops) as caught:
            bpf.prog_test_run(loaded.fd, bytes(64))
        oops = caught.value
        first, line, about = str(oops).splitlines()
        assert oops.insn_idx >= use
        assert first.startswith("kernel oops: slab-use-after-free: read of 8 bytes in program 'flow' at insn ")
        assert line == f"  flow.c:17:9: {LINE}"
        assert about == (f"  0 bytes into value of map 'flows' key 01000000, freed (8 bytes at {oops.registers[6]:#x})")
