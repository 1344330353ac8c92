"""Lines of source for a program of one function."""

from struct import Struct

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import FUNC_STATIC, INT_SIGNED, Func, FuncProto, Int

LINE = "return *flow & 1;"


def line_info(insn_idx: int) -> tuple[bytes, bytes, bytes]:
    """BTF with a function and a line of source, func_info, and line_info for the start and for one more slot."""
    builder = BtfBuilder()
    builder.add(Int("int", 4, 32, encoding=INT_SIGNED))
    builder.add(FuncProto("", 1, ()))
    function = builder.add(Func("program", 2, FUNC_STATIC))
    rows = [(0, builder.string("flow.c"), builder.string("first line"), 3 << 10 | 1)]
    rows.append((insn_idx, builder.string("flow.c"), builder.string(LINE), 17 << 10 | 9))
    lines = b"".join(Struct("<IIII").pack(*row) for row in rows)
    return builder.build(), Struct("<II").pack(0, function), lines
