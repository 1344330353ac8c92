"""The numbers of helpers are those of ``enum bpf_func_id`` in the bundled BTF of Linux 6.18."""

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.uapi.helper_ids import HELPER_NAMES


def test_every_helper_has_its_number() -> None:
    btf = vmlinux()
    found = btf.type(btf.by_name("bpf_func_id", Kind.ENUM))
    kernel = {row.value: row.name.replace("BPF_FUNC_", "bpf_") for row in found.values}  # type: ignore[attr-defined]
    kernel = {number: name for number, name in kernel.items() if name not in {"bpf_unspec", "__bpf_MAX_ID"}}
    assert kernel == HELPER_NAMES
