"""Loads from the context become loads from the kernel's structures (xdp_convert_ctx_access(), v6.18).

The offsets are those of the bundled BTF; a test compares them.
"""

from collections.abc import Callable

from ebpfsim.isa.insn import Insn
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.opcodes import BPF_DW, BPF_LDX, BPF_MEM, BPF_W

__all__ = ["KERNEL_OFFSETS", "convert_xdp", "converter"]

# (struct, member) -> offset in bytes
KERNEL_OFFSETS: dict[tuple[str, str], int] = {
    ("xdp_buff", "data"): 0,
    ("xdp_buff", "data_end"): 8,
    ("xdp_buff", "data_meta"): 16,
    ("xdp_buff", "rxq"): 32,
    ("xdp_buff", "txq"): 40,
    ("xdp_rxq_info", "dev"): 0,
    ("xdp_rxq_info", "queue_index"): 8,
    ("xdp_txq_info", "dev"): 0,
    ("net_device", "ifindex"): 224,
}

# offset in struct xdp_md -> members to follow; the last one is loaded with that width
_XDP_PATHS: dict[int, tuple[tuple[tuple[str, str], ...], int]] = {
    0: ((("xdp_buff", "data"),), BPF_DW),
    4: ((("xdp_buff", "data_end"),), BPF_DW),
    8: ((("xdp_buff", "data_meta"),), BPF_DW),
    12: ((("xdp_buff", "rxq"), ("xdp_rxq_info", "dev"), ("net_device", "ifindex")), BPF_W),
    16: ((("xdp_buff", "rxq"), ("xdp_rxq_info", "queue_index")), BPF_W),
    20: ((("xdp_buff", "txq"), ("xdp_txq_info", "dev"), ("net_device", "ifindex")), BPF_W),
}


def convert_xdp(insn: Insn) -> list[Insn]:
    """Return what replaces a load from ``struct xdp_md``."""
    path, width = _XDP_PATHS[insn.off]
    out, source = [], insn.src
    for number, member in enumerate(path):
        size = width if number == len(path) - 1 else BPF_DW
        out.append(Insn(BPF_LDX | BPF_MEM | size, insn.dst, source, KERNEL_OFFSETS[member], 0))
        source = insn.dst
    return out


def converter(prog_type: ProgType) -> Callable[[Insn], list[Insn]] | None:
    """Return the conversion for a program type, or None when it is not modelled."""
    return convert_xdp if prog_type == ProgType.XDP else None
