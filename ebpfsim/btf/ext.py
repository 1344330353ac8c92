"""``.BTF.ext``: which BTF function and which source line each instruction belongs to, and CO-RE relocations.

Layout: Documentation/bpf/btf.rst section 4.2, tools/lib/bpf/btf.c (btf_ext_parse), v6.18. Record sizes may grow.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from ebpfsim.btf.btf import MAGIC, Btf
from ebpfsim.errors import BtfError

__all__ = ["BtfExt", "CoreRelo", "CoreRelocKind", "ExtInfo"]

_HEADER = Struct("<HBBI")
_PART = Struct("<II")
_SECTION = Struct("<II")
_CORE = Struct("<IIII")
FUNC_INFO_SIZE, LINE_INFO_SIZE, CORE_RELO_SIZE = 8, 16, 16


class CoreRelocKind(IntEnum):
    """``enum bpf_core_relo_kind``."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12


@dataclass(frozen=True, slots=True)
class CoreRelo:
    """``struct bpf_core_relo``: the instruction at byte ``insn_off`` of its section depends on a type of the kernel.

    ``type_id`` is of the object's BTF, ``access`` the path to the field as indexes, for instance ``0:1:3``.
    """

    insn_off: int
    type_id: int
    access: str
    kind: int


@dataclass(frozen=True, slots=True)
class ExtInfo:
    """Records of one kind: for each section name, in the order of the blob, its records as bytes."""

    record_size: int
    sections: tuple[tuple[str, tuple[bytes, ...]], ...]

    def records(self, section: str) -> tuple[bytes, ...]:
        """Return the records of a section; the first entry of that name counts."""
        return next((records for name, records in self.sections if name == section), ())


NOTHING = ExtInfo(0, ())


class BtfExt:
    """A parsed ``.BTF.ext``."""

    def __init__(self, data: bytes, btf: Btf, where: str = ".BTF.ext") -> None:
        self._data = data
        self._btf = btf
        self.where = where
        if len(data) < _HEADER.size:
            raise BtfError(where, f"header of {len(data)} bytes, expected {_HEADER.size + 2 * _PART.size} or more")
        magic, version, flags, hdr_len = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise BtfError(where, f"magic {magic:#06x}, expected {MAGIC:#06x}")
        if version != 1 or flags:
            raise BtfError(where, f"version {version} and flags {flags:#x}, expected version 1 and no flags")
        if not _HEADER.size + 2 * _PART.size <= hdr_len <= len(data):
            raise BtfError(where, f"header length {hdr_len}, expected 24 to {len(data)}")
        self._hdr_len = hdr_len
        self.func_info = self._info(0, "func_info", FUNC_INFO_SIZE)
        self.line_info = self._info(1, "line_info", LINE_INFO_SIZE)
        # added in a longer header (LLVM 9)
        has_core = hdr_len >= _HEADER.size + 3 * _PART.size
        core_info = self._info(2, "core_relo", CORE_RELO_SIZE) if has_core else NOTHING
        self.core_relos = tuple((name, tuple(map(self._core, records))) for name, records in core_info.sections)

    def _core(self, record: bytes) -> CoreRelo:
        insn_off, type_id, access_off, kind = _CORE.unpack_from(record)
        return CoreRelo(insn_off, type_id, self._btf.string(access_off), kind)

    def _info(self, part: int, what: str, least: int) -> ExtInfo:
        data = self._data
        off, size = _PART.unpack_from(data, _HEADER.size + part * _PART.size)
        if size == 0:
            return NOTHING
        pos, end = self._hdr_len + off, self._hdr_len + off + size
        where = f"{self.where}: {what} at {pos:#x}"
        if off % 4 or size < 4 or end > len(data):
            raise BtfError(where, f"{size} bytes up to {end:#x} do not fit into {len(data):#x} aligned bytes")
        record_size = int.from_bytes(data[pos : pos + 4], "little")
        if record_size < least or record_size % 4:
            raise BtfError(where, f"records of {record_size} bytes, expected {least} or more")
        pos += 4
        sections = []
        while pos < end:
            if pos + _SECTION.size > end:
                raise BtfError(f"{self.where}: {what} at {pos:#x}", "section header is cut off")
            name_off, count = _SECTION.unpack_from(data, pos)
            start, stop = pos + _SECTION.size, pos + _SECTION.size + count * record_size
            if count == 0 or stop > end:
                problem = f"{count} records of {record_size} bytes, room is for {(end - start) // record_size}"
                raise BtfError(f"{self.where}: {what} at {pos:#x}", problem)
            records = tuple(data[at : at + record_size] for at in range(start, stop, record_size))
            sections.append((self._btf.string(name_off), records))
            pos = stop
        return ExtInfo(record_size, tuple(sections))
