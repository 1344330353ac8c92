"""Loading a large object without the verifier: 2 MB, 18,000 instructions and more, CO-RE everywhere, within 3 s."""

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.loader import open_object

pytestmark = pytest.mark.bench

ROOT = Path(__file__).resolve().parents[2]
GOAL_SECONDS = 3.0
PROGRAMS, READS = 180, 25
# members of the kernel's structs that tools read
FIELDS = {
    "task_struct": ("pid", "tgid", "flags", "prio", "exit_code", "start_time", "nvcsw", "min_flt"),
    "sk_buff": ("len", "data_len", "mac_len", "priority", "mark", "hash", "protocol", "transport_header"),
    "inode": ("i_mode", "i_flags", "i_ino", "i_size", "i_blocks", "i_generation"),
    "file": ("f_flags", "f_mode", "f_pos"),
}
HEADER = """
#include "common.h"
#define INDEX __attribute__((preserve_access_index))
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
char LICENSE[] SEC("license") = "GPL";
"""


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def source() -> str:
    """C whose programs read members in turn, each with a different list of names around it."""
    lines = [HEADER]
    for struct, members in FIELDS.items():
        lines.append(f"struct {struct} {{ {' '.join(f'__u64 {member};' for member in members)} }} INDEX;")
    places = [(struct, member) for struct, members in FIELDS.items() for member in members]
    for program in range(PROGRAMS):
        lines.append(
            f'SEC("raw_tp/event_{program}") int program_{program}(__u64 *ctx)\n{{\n\t__u64 sum = 0, value = 0;'
        )
        for read in range(READS):
            struct, member = places[(program * 7 + read) % len(places)]
            at = f"((struct {struct} *)ctx[{read % 3}])->{member}"
            lines.append(
                f"\tbpf_probe_read_kernel(&value, __builtin_preserve_field_info({at}, 1), &{at});"
                f" sum += value * {program * READS + read};"
            )
        lines.append("\treturn sum;\n}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The object, compiled now: it is too large to be committed."""
    compiler = _module(ROOT / "tools" / "compile_bpf.py")
    folder = tmp_path_factory.mktemp("large")
    (folder / "common.h").write_bytes((ROOT / "tests" / "data" / "bpf" / "common.h").read_bytes())
    (folder / "large.bpf.c").write_text(source())
    try:
        found = compiler.find_compiler()
    except SystemExit:
        pytest.skip("no compiler for BPF")
    compiler.compile_object(found, folder / "large.bpf.c", folder / "large.bpf.o")
    return folder / "large.bpf.o"


def test_a_large_object_loads_within_the_goal(large: Path) -> None:
    remembered = _module(ROOT / "tests" / "unit" / "ebpfsim" / "loader" / "conftest.py").Remembered
    taken = []
    for _ in range(3):
        bpf = remembered()
        started = time.process_time()
        with open_object(large).load(bpf) as obj:
            taken.append(time.process_time() - started)
            insns = sum(len(program.insns) // 8 for program in obj)
            assert obj.spec.btf_ext is not None
            relocations = sum(len(relos) for _, relos in obj.spec.btf_ext.core_relos)
    size = large.stat().st_size
    print(f"{size} bytes, {insns} instructions, {relocations} CO-RE relocations: {min(taken):.2f} s")
    assert insns >= 18_000
    assert relocations >= 2 * PROGRAMS * READS
    assert size > 1_500_000
    assert min(taken) < GOAL_SECONDS
