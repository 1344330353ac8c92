"""BTF as BPF_BTF_LOAD takes or refuses it: errno and log of ``btf_parse`` (kernel/bpf/btf.c, v6.18)."""

from dataclasses import dataclass
from struct import Struct

from ebpfsim.btf.check_env import BTF_MAX_NAME_OFFSET, MODIFIERS, BtfEnv, BtfRefused, RawType
from ebpfsim.btf.check_meta import check_all_metas
from ebpfsim.btf.check_types import check_all_types
from ebpfsim.btf.types import Kind
from ebpfsim.errnos import Errno

__all__ = ["Checked", "check_btf"]

HEADER = Struct("<HBBIIIII")  # struct btf_header
HDR_LEN_END = 8
BTF_MAGIC = 0xEB9F
BTF_VERSION = 1
MAX_CHAIN = 32


@dataclass(frozen=True, slots=True)
class Checked:
    """What the kernel said: no errno, or why the blob is refused."""

    errno: Errno | None
    log: str


def check_btf(data: bytes, wants_log: bool) -> Checked:
    """Check a blob of user space; the log is empty where nobody wants it."""
    env = BtfEnv(wants_log)
    try:
        type_at, type_len = _header(env, data)
        words = data[type_at : type_at + type_len]
        # a word that is cut off is never looked at
        env.words = memoryview(words + bytes(-len(words) % 4)).cast("I")
        check_all_metas(env, type_len)
        check_all_types(env)
        _chains(env)
    except BtfRefused as refused:
        return Checked(refused.errno, env.log)
    return Checked(None, env.log)


def _header(env: BtfEnv, data: bytes) -> tuple[int, int]:
    """``btf_parse_hdr`` and ``btf_parse_str_sec``: return where the types are, and how many bytes."""
    if len(data) < HDR_LEN_END:
        raise env.refuse("hdr_len not found")
    hdr_len = int.from_bytes(data[4:8], "little")
    if len(data) < hdr_len:
        raise env.refuse("btf_header not found")
    if any(data[HEADER.size : hdr_len]):
        raise env.refuse("Unsupported btf_header", Errno.E2BIG)
    header = HEADER.unpack(data[: min(hdr_len, HEADER.size)].ljust(HEADER.size, b"\0"))
    magic, version, flags, hdr_len, type_off, type_len, str_off, str_len = header
    env.write(f"magic: {magic:#x}\nversion: {version}\nflags: {flags:#x}\nhdr_len: {hdr_len}\n")
    env.write(f"type_off: {type_off}\ntype_len: {type_len}\nstr_off: {str_off}\nstr_len: {str_len}\n")
    env.write(f"btf_total_size: {len(data)}\n")
    if magic != BTF_MAGIC:
        raise env.refuse("Invalid magic")
    if version != BTF_VERSION:
        raise env.refuse("Unsupported version", Errno.ENOTSUPP)
    if flags:
        raise env.refuse("Unsupported flags", Errno.ENOTSUPP)
    if len(data) == hdr_len:
        raise env.refuse("No data")
    _sections(env, len(data) - hdr_len, (type_off, type_len), (str_off, str_len))
    if str_off + str_len != len(data) - hdr_len:
        raise env.refuse("String section is not at the end")
    strings = data[hdr_len + str_off :]
    if not 0 < str_len <= BTF_MAX_NAME_OFFSET + 1 or strings[0] or strings[-1]:
        raise env.refuse("Invalid string section")
    env.strings = strings
    if type_off & 3:
        raise env.refuse("Unaligned type_off")
    if not type_len:
        raise env.refuse("No type found")
    return hdr_len + type_off, type_len


def _sections(env: BtfEnv, room: int, types: tuple[int, int], strings: tuple[int, int]) -> None:
    # btf_check_sec_info(): one behind the other, without gaps; its order of offsets is that of signed differences
    total, behind = 0, types[0] - strings[0] & 0xFFFF_FFFF or types[1] - strings[1] & 0xFFFF_FFFF
    for offset, length in (strings, types) if 0 < behind < 1 << 31 else (types, strings):
        if room < offset:
            raise env.refuse("Invalid section offset")
        if total < offset:
            raise env.refuse("Unsupported section found")
        if total > offset:
            raise env.refuse("Section overlap found")
        if room - total < length:
            raise env.refuse("Total section length too long")
        total += length
    if room != total:
        raise env.refuse("Unsupported section found")


def _chains(env: BtfEnv) -> None:
    # btf_check_type_tags(): in a chain of modifiers the tags come first; what was walked before is not walked again
    good = 0
    for type_id, first in enumerate(env.types):
        type_: RawType = first
        current, left, in_tags = type_id, MAX_CHAIN, True
        while type_.kind in MODIFIERS:
            if not left:
                raise env.refuse("Max chain length or cycle detected", Errno.ELOOP)
            left -= 1
            if type_.kind != Kind.TYPE_TAG:
                in_tags = False
            elif not in_tags:
                raise env.refuse("Type tags don't precede modifiers")
            if current <= good:
                break
            current = type_.ref
            type_ = env.types[current]
        if first.kind in MODIFIERS:
            good = type_id
