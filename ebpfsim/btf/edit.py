"""Changes a BTF blob in place, as a loader does before it hands an object's types to the kernel."""

from struct import Struct

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Array, Datasec, DatasecVar, Kind, Var

__all__ = ["BtfEditor", "resize_datasec"]

_U32 = Struct("<I")
_SECINFO = Struct("<III")


class BtfEditor:
    """A copy of a blob without base, whose records can be overwritten; ``finish`` gives the new blob."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._raw = bytearray(btf.raw)
        self._types = bytearray()
        self._strings = bytearray()
        self._added = 0
        self.changed = False

    def _put(self, pos: int, value: int) -> None:
        if _U32.unpack_from(self._raw, pos)[0] != value & 0xFFFFFFFF:
            _U32.pack_into(self._raw, pos, value & 0xFFFFFFFF)
            self.changed = True

    def _pos(self, type_id: int) -> int:
        return self._btf.offsets[type_id - self._btf.first_id]

    def set_datasec(self, type_id: int, size: int, rows: list[DatasecVar]) -> None:
        """Give a data section its size and (as many as before) rows."""
        pos = self._pos(type_id)
        self._put(pos + 8, size)
        for i, row in enumerate(rows):
            for word, value in enumerate((row.type_id, row.off, row.size)):
                self._put(pos + 12 + 12 * i + 4 * word, value)

    def set_linkage(self, type_id: int, linkage: int) -> None:
        """Give a variable or function its linkage."""
        pos = self._pos(type_id)
        if self._btf.kind(type_id) == Kind.VAR:
            self._put(pos + 12, linkage)
        else:
            self._put(pos + 4, _U32.unpack_from(self._raw, pos + 4)[0] & ~0xFFFF | linkage)

    def set_type(self, type_id: int, referred: int) -> None:
        """Let a variable, function or modifier refer to another type."""
        self._put(self._pos(type_id) + 8, referred)

    def set_param_name(self, proto_id: int, param: int, name_off: int) -> None:
        """Name a parameter of a prototype by string offset."""
        self._put(self._pos(proto_id) + 12 + 8 * param, name_off)

    def add_var(self, name: str, type_id: int, linkage: int) -> tuple[int, int]:
        """Append a variable; return its type id and the string offset of its name."""
        name_off = self._btf.str_end + len(self._strings)
        self._strings += name.encode() + b"\0"
        self._types += Struct("<IIII").pack(name_off, Kind.VAR << 24, type_id, linkage)
        self._added += 1
        return self._btf.nr_types + self._added - 1, name_off

    def add_array(self, type_id: int, index_type_id: int, nelems: int) -> int:
        """Append an array type; return its id."""
        self._types += Struct("<IIIIII").pack(0, Kind.ARRAY << 24, 0, type_id, index_type_id, nelems)
        self._added += 1
        return self._btf.nr_types + self._added - 1

    def finish(self) -> Btf:
        """Return the changed blob; the old one when nothing changed."""
        if not self.changed and not self._added:
            return self._btf
        start, end, str_start, str_end = self._btf.extents
        if not self._added:
            return Btf(bytes(self._raw), where=self._btf.where)
        types = bytes(self._raw[start:end] + self._types)
        strings = bytes(self._raw[str_start:str_end] + self._strings)
        # newer compilers have longer headers; what is behind the known fields stays as it is
        header = self._raw[: int.from_bytes(self._raw[4:8], "little")]
        Struct("<IIII").pack_into(header, 8, 0, len(types), len(types), len(strings))
        return Btf(bytes(header) + types + strings, where=self._btf.where)


def resize_datasec(btf: Btf, type_id: int, size: int) -> Btf | None:
    """Return types in which a section has ``size`` bytes, because the array at its end is longer or shorter.

    None when there is no array at its end, or no whole number of elements fits (map_btf_datasec_resize of libbpf).
    """
    section = btf.type(type_id)
    if not isinstance(section, Datasec) or not section.vars:
        return None
    last = section.vars[-1]
    var = btf.type(last.type_id)
    array = btf.resolved(var.type_id) if isinstance(var, Var) else var
    if not isinstance(array, Array):
        return None
    rest, element = size - last.off, sizeof(btf, array.type_id)
    if rest < 0 or not element or rest % element:
        return None
    editor = BtfEditor(btf)
    editor.set_type(last.type_id, editor.add_array(array.type_id, array.index_type_id, rest // element))
    editor.set_datasec(type_id, size, [*section.vars[:-1], DatasecVar(last.type_id, last.off, rest)])
    return editor.finish()
