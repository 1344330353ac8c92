"""A structure written down as C: for records whose type the compiler left out of an object.

::

    struct { __u32 pid; char comm[16]; unsigned long long when; }

Members are aligned as the compiler does on x86-64. There are numbers, characters, and arrays of them.
"""

import re

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Array, Int, Member, Struct, Typedef
from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean

__all__ = ["layout"]

SIGNED, CHAR, BOOL = 1, 2, 4  # BTF_INT_*
# bytes and encoding
TYPES = {
    "char": (1, SIGNED), "signed char": (1, SIGNED), "unsigned char": (1, 0), "bool": (1, BOOL), "_Bool": (1, BOOL),
    "short": (2, SIGNED), "unsigned short": (2, 0), "int": (4, SIGNED), "unsigned int": (4, 0), "unsigned": (4, 0),
    "long": (8, SIGNED), "unsigned long": (8, 0), "long long": (8, SIGNED), "unsigned long long": (8, 0),
    "pid_t": (4, SIGNED), "uid_t": (4, 0), "gid_t": (4, 0), "size_t": (8, 0), "ssize_t": (8, SIGNED),
    **{f"{name}{bits}": (bits // 8, 0) for name in ("u", "__u") for bits in (8, 16, 32, 64)},
    **{f"{name}{bits}": (bits // 8, SIGNED) for name in ("s", "__s") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}_t": (bits // 8, 0) for bits in (8, 16, 32, 64)},
    **{f"int{bits}_t": (bits // 8, SIGNED) for bits in (8, 16, 32, 64)},
    "__be16": (2, 0), "__be32": (4, 0), "__be64": (8, 0),
}  # fmt: skip
_STRUCT = re.compile(r"\s*(?:struct\s*(\w*)\s*)?\{(.*)\}\s*;?\s*", re.DOTALL)
_MEMBER = re.compile(r"([\w\s]+?)\s*\b(\w+)\s*((?:\[\s*\d+\s*\])*)")
MAX_BYTES = 1 << 20


def layout(text: str) -> tuple[Btf, int] | None:
    """Return the types of a structure and its id; None when the text is none, InputError when it is a wrong one."""
    match = _STRUCT.fullmatch(text)
    if match is None:
        return None
    builder, members, offset, align = BtfBuilder(), [], 0, 1
    index = builder.add(Int("unsigned int", 4, 32))
    for part in (part.strip() for part in match[2].split(";")):
        if not part:
            continue
        member = _MEMBER.fullmatch(part)
        if member is None:
            raise InputError("", f"'{part}' is no member of a structure", "for instance 'char comm[16]'")
        words, name, dimensions = member.groups()
        kind = " ".join(words.split())
        if kind not in TYPES:
            raise InputError("", f"type '{kind}' of '{name}' is not known{did_you_mean(kind, TYPES)}")
        size, encoding = TYPES[kind]
        type_id = builder.add(
            Int(f"u{8 * size}" if kind.startswith("__be") else kind, size, 8 * size, encoding=encoding)
        )
        if kind.startswith("__be"):
            type_id = builder.add(Typedef(kind, type_id))
        total = size
        for count in reversed(re.findall(r"\d+", dimensions)):
            type_id, total = builder.add(Array("", type_id, index, int(count))), total * int(count)
        offset = -(-offset // size) * size
        members.append(Member(name, type_id, 8 * offset))
        offset, align = offset + total, max(align, size)
        if offset > MAX_BYTES:
            raise InputError("", f"a structure of more than {MAX_BYTES} bytes")
    struct = builder.add(Struct(match[1] or "record", -(-offset // align) * align, tuple(members)))
    return Btf(builder.build()), struct
