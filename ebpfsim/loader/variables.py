"""Global variables by name, like the fields of a skeleton: in the initial image before load, in the map afterwards."""

from collections.abc import Iterator, MutableMapping
from typing import Any

from ebpfsim.btf.btf import Btf, expect
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Datasec, DatasecVar
from ebpfsim.btf.values import from_bytes, to_bytes
from ebpfsim.errors import InputError
from ebpfsim.loader.maps import ObjectMap
from ebpfsim.suggest import did_you_mean

__all__ = ["Image", "Variables"]

FIRST = bytes(4)


class Image:
    """The initial contents of a data map of ``size`` bytes; what was never written is zero and takes no memory."""

    def __init__(self, size: int, contents: bytes = b"") -> None:
        self.size = size
        self._data = bytearray(contents)

    def get(self, off: int, size: int) -> bytes:
        """Return ``size`` bytes from ``off`` on."""
        return bytes(self._data[off : off + size]).ljust(size, b"\0")

    def put(self, off: int, data: bytes) -> None:
        """Overwrite bytes from ``off`` on."""
        if len(self._data) < off:
            self._data.extend(bytes(off - len(self._data)))
        self._data[off : off + len(data)] = data

    def __bytes__(self) -> bytes:
        return self.get(0, self.size)


class Variables(MutableMapping[str, Any]):
    """The variables of the sections of one kind (``.rodata*``, ``.data*``, ``.bss*``), as BTF describes them.

    ``images`` are the initial contents by map name; they count until the maps exist.
    """

    def __init__(self, kind: str, maps: list[ObjectMap], images: dict[str, Image], btf: Btf | None, where: str) -> None:
        self._kind, self._images, self._where = kind, images, where
        self._maps = maps
        self.set_types(btf)

    def set_types(self, btf: Btf | None) -> None:
        """Take over types that were changed; the object calls this."""
        self._btf = btf
        self._places: dict[str, tuple[ObjectMap, DatasecVar]] = {}
        for map_ in self._maps if btf is not None else ():
            assert btf is not None
            if map_.value_type_id and isinstance(btf.type(map_.value_type_id), Datasec):
                for row in expect(btf, map_.value_type_id, Datasec).vars:
                    self._places.setdefault(btf.name_of(row.type_id), (map_, row))

    def __repr__(self) -> str:
        return f"<Variables {self._kind}: {', '.join(self._places)}>"

    def _place(self, name: str) -> tuple[Btf, ObjectMap, DatasecVar, int]:
        if name not in self._places or self._btf is None:
            hint = "build the object with -g" if self._btf is None else did_you_mean(name, self._places)
            raise InputError(self._where, f"no variable '{name}' in {self._kind}{hint}")
        map_, row = self._places[name]
        size = sizeof(self._btf, row.type_id)
        if row.off + size > map_.value_size:
            raise InputError(self._where, f"variable '{name}' ends past its section {self._kind}")
        return self._btf, map_, row, size

    def __getitem__(self, name: str) -> Any:
        btf, map_, row, size = self._place(name)
        if map_.created:
            calls, fd = map_.bound()
            data = calls.map_lookup_elem(fd, FIRST)[row.off : row.off + size]
        else:
            data = self._images[map_.name].get(row.off, size)
        return from_bytes(btf, row.type_id, data)

    def __setitem__(self, name: str, value: Any) -> None:
        btf, map_, row, size = self._place(name)
        data = to_bytes(btf, row.type_id, value, f"{self._where}: variable '{name}'")
        if map_.created:
            calls, fd = map_.bound()
            contents = bytearray(calls.map_lookup_elem(fd, FIRST))
            contents[row.off : row.off + size] = data
            calls.map_update_elem(fd, FIRST, bytes(contents))
        else:
            self._images[map_.name].put(row.off, data)

    def __delitem__(self, name: str) -> None:
        raise InputError(self._where, f"variable '{name}' cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
