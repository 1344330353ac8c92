"""Which function of the kernel stands for a helper: the live kernel's symbols say."""

from pathlib import Path

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import decode, encode
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.verifier.call_symbols import helper_symbol, map_symbol
from ebpfsim.verifier.kernel_calls import call_name, call_offset

KPROBE_MULTI = 42  # BPF_TRACE_KPROBE_MULTI, include/uapi/linux/bpf.h


def _kallsyms() -> dict[str, int]:
    names = {}
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, _, name = line.split()[:3]
        names.setdefault(name, int(address, 16))
    return names


# one call of a helper without arguments, or with what every program has
@pytest.mark.live
@pytest.mark.parametrize(
    "prog_type", [ProgType.XDP, ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.RAW_TRACEPOINT]
)
@pytest.mark.parametrize("helper", [5, 7, 14, 35, 42, 125, 160, 208, 23, 46, 58, 173, 174, 31])
def test_linux_calls_the_same_function(prog_type: ProgType, helper: int) -> None:
    from ebpfsim.errors import KernelError
    from ebpfsim.live import Bpf

    code = f"r2 = 0; r3 = 0; r4 = 0; r5 = 0; call {helper}; r0 = 0; exit"
    bpf, known = Bpf(), _kallsyms()
    try:
        loaded = bpf.prog_load(prog_type, encode(assemble(code)))
    except KernelError:
        pytest.skip("not for programs of this type")
    call = decode(bpf.obj_get_info_by_fd(loaded.fd).xlated_prog_insns)[4]
    name = helper_symbol(helper, prog_type, 0)
    assert known[name] - known["__bpf_call_base"] == call.imm


@pytest.mark.parametrize(
    ("helper", "prog_type", "attach_type", "name"),
    [
        (23, ProgType.XDP, 0, "bpf_xdp_redirect"),
        (23, ProgType.SCHED_CLS, 0, "bpf_redirect"),
        (25, ProgType.SCHED_CLS, 0, "bpf_skb_event_output"),
        (173, ProgType.KPROBE, KPROBE_MULTI, "bpf_get_func_ip_kprobe_multi"),
        (156, ProgType.LSM, 0, "bpf_task_storage_get"),
        (156, ProgType.KPROBE, 0, "bpf_task_storage_get_recur"),
    ],
)
def test_by_program_type(helper: int, prog_type: ProgType, attach_type: int, name: str) -> None:
    assert helper_symbol(helper, prog_type, attach_type) == name
    assert call_name(call_offset(name)) == name


def test_by_map_type() -> None:
    assert map_symbol(2, MapType.LRU_HASH) == "htab_lru_map_update_elem"
    assert map_symbol(51, MapType.DEVMAP) == "dev_map_redirect"
    assert map_symbol(1, MapType.RINGBUF) == ""
