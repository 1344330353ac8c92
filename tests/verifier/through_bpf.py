"""Loads recorded programs through bpf(2), of the simulated kernel or this machine's, and runs them."""

from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.edit import BtfEditor
from ebpfsim.btf.types import Func, FuncProto, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.insn import Insn, decode, encode
from ebpfsim.uapi.bpf import MapType


def loadable(blob: str) -> bytes:
    """Return recorded BTF as Linux takes it: all arguments of functions have names, if only that of another."""
    btf = Btf(bytes.fromhex(blob))
    editor = BtfEditor(btf)
    for func_id in btf.ids_of_kind(Kind.FUNC):
        func = btf.type(func_id)
        assert isinstance(func, Func)
        proto = btf.type(func.type_id)
        assert isinstance(proto, FuncProto)
        for number, param in enumerate(proto.params):
            if param.type_id and not param.name:
                # the string table begins with an empty string: the one behind it is a name
                editor.set_param_name(func.type_id, number, 1)
    return editor.finish().raw


class Through:
    """One record's maps and program, behind descriptors."""

    def __init__(self, bpf: Any, record: dict[str, Any]) -> None:
        self.bpf, self.record = bpf, record
        self.fds: list[int] = []
        self.btf = self._own(bpf.btf_load(loadable(record["btf"]))) if record.get("btf") else 0
        self.maps: list[int] = []
        for spec in record["maps"]:
            self.maps.append(self._map(spec))
        self.prog = self._load(record["insns"], record["map_refs"], record)

    def close(self) -> None:
        """Close all descriptors."""
        for fd in reversed(self.fds):
            self.bpf.close(fd)

    def _own(self, fd: int) -> int:
        self.fds.append(fd)
        return fd

    def _map(self, spec: dict[str, Any]) -> int:
        bpf, extra = self.bpf, {}
        inner = spec.get("inner")
        if inner is not None:
            extra["inner_map_fd"] = self.maps[inner] if isinstance(inner, int) else self._map(inner)
        if spec.get("btf"):
            extra["btf_fd"] = self.btf if spec["btf"] == "prog" else self._own(bpf.btf_load(loadable(spec["btf"])))
            extra["btf_key_type_id"], extra["btf_value_type_id"] = spec.get("btf_key") or 0, spec.get("btf_value") or 0
        sizes = (spec["key"], spec["value"], spec["max"])
        fd = bpf.map_create(
            MapType(spec["type"]), *sizes, map_flags=spec.get("flags", 0), map_extra=spec.get("map_extra", 0), **extra
        )
        self._own(fd)
        for key, value in (spec.get("init") or {}).items():
            bpf.map_update_elem(fd, bytes.fromhex(key), bytes.fromhex(value))
        for index, insns, slots in spec.get("progs") or ():
            prog = self._load(insns, [(slot, fd) for slot in slots], {**self.record, "kfunc_refs": []}, plain=True)
            bpf.map_update_elem(fd, index.to_bytes(4, "little"), prog.to_bytes(4, "little"))
        if spec.get("frozen") or spec.get("freeze"):
            bpf.map_freeze(fd)
        return fd

    def _load(self, text: str, refs: Any, record: dict[str, Any], plain: bool = False) -> int:
        insns = [Insn(*insn) for insn in decode(bytes.fromhex(text))]
        for slot, number in refs:
            insns[slot] = insns[slot]._replace(imm=number if plain else self.maps[number])
        for slot, name in record.get("kfunc_refs") or ():
            insns[slot] = insns[slot]._replace(imm=vmlinux().find(name, Kind.FUNC) or 0)
        extra: dict[str, Any] = {}
        if not plain:
            extra = {
                "prog_btf_fd": self.btf,
                "func_info": bytes.fromhex(record.get("func_info") or ""),
                "line_info": bytes.fromhex(record.get("line_info") or ""),
                "attach_btf_id": record.get("attach_btf_id") or 0,
            }
        loaded = self.bpf.prog_load(
            record["prog_type"],
            encode(insns),
            license="GPL",
            expected_attach_type=record["expected_attach_type"],
            prog_flags=record["prog_flags"],
            **extra,
        )
        return self._own(loaded.fd)

    def run(self, data: bytes, syscall: bool = False) -> tuple[int, bytes]:
        """Run the program on a packet, or on a context, and return its result and what comes out."""
        if syscall:
            result = self.bpf.prog_test_run(self.prog, ctx_in=data, repeat=0)
            return result.retval, result.ctx_out
        result = self.bpf.prog_test_run(self.prog, data)
        return result.retval, result.data_out
