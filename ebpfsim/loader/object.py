"""An object file on its way into a kernel: bpf_object__open, bpf_object__load (tools/lib/bpf/libbpf.c, libbpf 1.8).

Order and arguments of the calls are libbpf's. Differs: slots of a program array stay empty for programs that ``only``
leaves out, where libbpf fails; descriptors are known before programs are relocated, so that there are no placeholders.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.core import CoreRelocator
from ebpfsim.btf.edit import resize_datasec
from ebpfsim.elf.link import LinkedProgram, Linker
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import MapKind, ObjectSpec, RelocKind
from ebpfsim.errnos import Errno
from ebpfsim.errors import EbpfSimError, InputError, KernelError
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.loader.calls import BpfCalls, in_context
from ebpfsim.loader.externs import Externs, resolve_externs
from ebpfsim.loader.kernel import KernelView, kernel_view
from ebpfsim.loader.load_maps import create_map, fill_prog_array
from ebpfsim.loader.load_prog import POISON_KFUNC_BASE, POISON_MAP_BASE, load_program
from ebpfsim.loader.maps import ObjectMap
from ebpfsim.loader.program import Program
from ebpfsim.loader.struct_ops import StructOps, prepare_struct_ops
from ebpfsim.loader.variables import Image, Variables
from ebpfsim.suggest import did_you_mean
from ebpfsim.uapi.flags import BPF_PSEUDO_BTF_ID, BPF_PSEUDO_KFUNC_CALL, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE

__all__ = ["MapTable", "Object", "open_object"]

BPF_CALL = 0x85


def open_object(
    source: str | PathLike[str] | bytes,
    *,
    bpf: BpfCalls | None = None,
    kernel: KernelView | None = None,
    core_btf: Btf | None = None,
    where: str = "",
) -> "Object":
    """Return an object that nothing of is in a kernel yet; ElfError or BtfError when the file is not loadable.

    ``bpf`` is what ``load()`` uses by default; ``kernel`` the kernel that CO-RE and externs are resolved against, by
    default the one behind ``bpf``. ``core_btf`` are other types for CO-RE only (``btf_custom_path`` of libbpf).
    """
    return Object(read_object(source, where), bpf=bpf, kernel=kernel, core_btf=core_btf)


class MapTable(dict[str, ObjectMap]):
    """Maps by name; maps of global data also by section (``.rodata``)."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def __missing__(self, name: str) -> ObjectMap:
        for map_ in self.values():
            if map_.spec.is_data and map_.spec.section_name == name:
                return map_
        raise InputError(self._where, f"no map '{name}'{did_you_mean(name, self)}")


class ProgramTable(dict[str, Program]):
    """Programs by name."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def __missing__(self, name: str) -> Program:
        raise InputError(self._where, f"no program '{name}'{did_you_mean(name, self)}")


class Object:
    """An opened object. ``programs`` and ``maps`` by name, global variables in ``rodata``, ``data`` and ``bss``,
    tables of functions in ``struct_ops``.

    A context manager: leaving it closes the descriptors.
    """

    def __init__(
        self,
        spec: ObjectSpec,
        *,
        bpf: BpfCalls | None = None,
        kernel: KernelView | None = None,
        core_btf: Btf | None = None,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.where = spec.where
        self.btf_fd = -1
        # what attaches all programs, where the object belongs to a host
        self.attach_all: Callable[[Object], dict[str, Any]] | None = None
        self.programs = ProgramTable(spec.where)
        self.maps = MapTable(spec.where)
        self._bpf = bpf
        self._kernel = kernel
        self._core_btf = core_btf
        self._fds: list[tuple[BpfCalls, int]] = []
        self._loaded = False
        for name, prog in spec.programs.items():
            self.programs[name] = Program(prog, spec.where)
        for name, map_spec in spec.maps.items():
            self.maps[name] = ObjectMap(name, map_spec, spec.btf, spec.where)
            self.maps[name].siblings = self.maps
        self._images = {
            name: Image(map_spec.value_size, map_spec.contents)
            for name, map_spec in spec.maps.items()
            if map_spec.is_data
        }
        for name in self._images:
            self.maps[name].on_resize = self._resize
        self.rodata = self._variables(".rodata", MapKind.RODATA)
        self.data = self._variables(".data", MapKind.DATA)
        self.bss = self._variables(".bss", MapKind.BSS)
        self.kconfig = self._variables(".kconfig", MapKind.KCONFIG)
        self.struct_ops = {
            map_.name: StructOps(map_, spec.btf, self.programs)
            for map_ in self.maps.values()
            if map_.spec.kind is MapKind.STRUCT_OPS and spec.btf is not None
        }

    def __repr__(self) -> str:
        return f"<Object '{self.name}': {len(self.programs)} programs, {len(self.maps)} maps>"

    def __enter__(self) -> "Object":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _variables(self, section: str, kind: MapKind) -> Variables:
        maps = [map_ for map_ in self.maps.values() if map_.spec.kind is kind]
        return Variables(section, maps, self._images, self.spec.btf, self.where)

    def _resize(self, map_: ObjectMap, size: int) -> None:
        # bpf_map__set_value_size: without an array at its end a section loses its types
        self._images[map_.name].size = size
        btf = self.spec.btf
        if btf is None or not map_.value_type_id:
            return
        resized = resize_datasec(btf, map_.value_type_id, size)
        if resized is None:
            map_.key_type_id = map_.value_type_id = 0
            resized = btf
        self.spec = replace(self.spec, btf=resized)
        for other in self.maps.values():
            other.set_types(resized)
        for variables in (self.rodata, self.data, self.bss, self.kconfig):
            variables.set_types(resized)

    @property
    def license(self) -> str:
        """What the section ``license`` says."""
        return self.spec.license

    @property
    def loaded(self) -> bool:
        """Whether ``load()`` has succeeded."""
        return self._loaded

    # -- load --------------------------------------------------------------------------------------------------------

    def load(self, bpf: BpfCalls | None = None, only: Iterable[str] | None = None) -> "Object":
        """Create the maps, load the programs that autoload (or those named in ``only``); return the object.

        KernelError or VerifierError names the object and the program or map; what was created by then is closed.
        """
        bpf = bpf if bpf is not None else self._bpf
        if bpf is None:
            raise InputError(self.where, "load() needs a bpf(2)", "open the object by host.open(), or load(host.bpf)")
        if self._loaded:
            raise InputError(self.where, "the object is loaded already", "open the file again for a second copy")
        self._bpf = bpf
        try:
            self._load(bpf, [self.programs[name] for name in only] if only is not None else None)
        except BaseException:
            self.close()
            raise
        self._loaded = True
        return self

    def _autoloading(self) -> list[Program]:
        return [program for program in self.programs.values() if program.autoload]

    def _load(self, bpf: BpfCalls, only: list[Program] | None) -> None:
        kernel = self._kernel if self._kernel is not None else kernel_view(bpf)
        externs = resolve_externs(self.spec, kernel)
        for name, map_spec in self.spec.maps.items():
            if map_spec.kind is MapKind.KCONFIG:
                self._images[name].put(0, externs.kconfig)
        self._fit_struct_ops(kernel)
        chosen = only if only is not None else self._autoloading()
        linker = self._linker(kernel)
        linked = [linker.link(program.name) for program in chosen]
        self._load_btf(bpf)
        for map_ in self.maps.values():
            if map_.autocreate:
                self._create(bpf, map_)
        for program, code in zip(chosen, linked, strict=True):
            with _Context(f"load program '{program.name}' of {self.where}"):
                insns = encode(self._relocated(code, externs, self._map_fds()))
                loaded = load_program(bpf, self, program, code, insns, kernel)
            self._fds.append((bpf, loaded.fd))
            program.set_loaded(bpf, loaded, insns)
            self._bind_rodata(bpf, program, code)
        for map_ in self.maps.values():
            if map_.created:
                with _Context(f"fill map '{map_.name}' of {self.where}"):
                    fill_prog_array(bpf, map_, self.programs, strict=only is None)

    def _fit_struct_ops(self, kernel: KernelView) -> None:
        if self.struct_ops:
            with _Context(f"load {self.where}"):
                prepare_struct_ops(self.struct_ops.values(), self.programs.values(), kernel.btf())

    def _load_btf(self, bpf: BpfCalls) -> None:
        if self.spec.btf is None:
            return
        try:
            self.btf_fd = bpf.btf_load(self.spec.btf.raw)
        except KernelError:
            # as libbpf: programs and maps do without
            self.btf_fd = -1
        else:
            self._fds.append((bpf, self.btf_fd))

    def _create(self, bpf: BpfCalls, map_: ObjectMap) -> None:
        with _Context(f"create map '{map_.name}' of {self.where}"):
            fd = create_map(bpf, map_, max(self.btf_fd, 0), self._images.get(map_.name), self._map_fds())
        self._fds.append((bpf, fd))
        map_.set_created(bpf, fd)

    def _bind_rodata(self, bpf: BpfCalls, program: Program, code: LinkedProgram) -> None:
        # constants stay with the program even if it does not refer to them; for those it does this changes nothing
        used = {reloc.target for reloc in code.relocs}
        for map_ in self.maps.values():
            if map_.spec.kind is MapKind.RODATA and map_.created and map_.name not in used:
                with suppress(KernelError):  # libbpf only warns
                    bpf.prog_bind_map(program.fd, map_.fd)

    def _map_fds(self) -> dict[str, int]:
        return {name: map_.fd for name, map_ in self.maps.items() if map_.created}

    # -- relocation --------------------------------------------------------------------------------------------------

    def relocate(self, name: str) -> bytes:
        """Return the instructions that load() hands to PROG_LOAD; before it, map descriptors are zero."""
        program = self.programs[name]
        kernel = self._kernel
        if kernel is None:
            kernel = kernel_view(self._bpf) if self._bpf is not None else KernelView()
        externs = resolve_externs(self.spec, kernel)
        fds = self._map_fds() if self._loaded else {name: 0 for name, map_ in self.maps.items() if map_.autocreate}
        return encode(self._relocated(self._linker(kernel).link(program.name), externs, fds))

    def _linker(self, kernel: KernelView) -> Linker:
        known: list[CoreRelocator] = []

        def relocator() -> CoreRelocator:
            if not known:
                assert isinstance(self.spec.btf, Btf)
                target = self._core_btf if self._core_btf is not None else kernel.btf()
                known.append(CoreRelocator(self.spec.btf, target))
            return known[0]

        return Linker(self.spec, relocator)

    def _relocated(self, code: LinkedProgram, externs: Externs, fds: dict[str, int]) -> list[Insn]:
        """Return the slots with maps and externs filled in (bpf_object__relocate_data)."""
        insns = list(code.insns)
        for reloc in code.relocs:
            at = reloc.insn_idx
            insn = insns[at]
            if insn.code == BPF_CALL and reloc.kind is not RelocKind.EXTERN_CALL:
                continue  # poisoned by CO-RE
            match reloc.kind:
                case RelocKind.MAP | RelocKind.DATA:
                    self._put_map(insns, at, reloc.target, reloc.off, reloc.kind is RelocKind.DATA, fds)
                case RelocKind.JUMP_TABLE:
                    # BPF_MAP_TYPE_INSN_ARRAY came with Linux 6.19
                    detail = f"instruction {at}: the kernel has no maps for jump tables"
                    raise KernelError("map_create", Errno.EINVAL, detail)
                case RelocKind.EXTERN_LD64:
                    self._put_extern(insns, at, reloc.target, externs, fds)
                case RelocKind.EXTERN_CALL if reloc.target in externs.btf_ids:
                    insns[at] = insn._replace(src=BPF_PSEUDO_KFUNC_CALL, off=0, imm=externs.btf_ids[reloc.target])
                case _:
                    idx = [extern.name for extern in self.spec.externs].index(reloc.target)
                    insns[at] = Insn(BPF_CALL, imm=POISON_KFUNC_BASE + idx)
        return insns

    def _put_map(self, insns: list[Insn], at: int, name: str, off: int, is_data: bool, fds: dict[str, int]) -> None:
        low, high = insns[at], insns[at + 1]
        if name not in fds:
            poison = Insn(BPF_CALL, imm=POISON_MAP_BASE + list(self.maps).index(name))
            insns[at : at + 2] = [poison, poison]
        elif is_data:
            insns[at] = low._replace(src=BPF_PSEUDO_MAP_VALUE, imm=fds[name])
            insns[at + 1] = high._replace(imm=_s32(low.imm + off))
        else:
            insns[at] = low._replace(src=BPF_PSEUDO_MAP_FD, imm=fds[name])

    def _put_extern(self, insns: list[Insn], at: int, name: str, externs: Externs, fds: dict[str, int]) -> None:
        low, high = insns[at], insns[at + 1]
        extern = next(extern for extern in self.spec.externs if extern.name == name)
        if extern.kind.value == ".kconfig":
            config = next(map_.name for map_ in self.maps.values() if map_.spec.kind is MapKind.KCONFIG)
            insns[at] = low._replace(src=BPF_PSEUDO_MAP_VALUE, imm=fds[config])
            insns[at + 1] = high._replace(imm=extern.data_off)
        elif name in externs.btf_ids:
            insns[at] = low._replace(src=BPF_PSEUDO_BTF_ID, imm=externs.btf_ids[name])
            insns[at + 1] = high._replace(imm=0)
        else:
            address = externs.addresses.get(name, 0)
            insns[at] = low._replace(imm=_s32(address))
            insns[at + 1] = high._replace(imm=_s32(address >> 32))

    # -- close -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all descriptors; the kernel keeps what links and pins still hold. Closing twice is fine."""
        fds, self._fds = self._fds, []
        for map_ in self.maps.values():
            map_.set_created(None, -1)
        for program in self.programs.values():
            program.set_loaded(None, None)
        self.btf_fd = -1
        self._loaded = False
        for bpf, fd in reversed(fds):
            bpf.close(fd)

    def attach(self) -> dict[str, Any]:
        """Attach every loaded program where its SEC() says, as libbpf does; return the links by program."""
        if self.attach_all is None:
            raise InputError(self.where, "attach() needs a host", "open the object by host.open() or host.load()")
        return self.attach_all(self)

    def __iter__(self) -> Iterator[Program]:
        return iter(self.programs.values())


class _Context:
    # names what was being done in errors that pass through

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, EbpfSimError) and not (isinstance(error, InputError) and error.where):
            raise in_context(error, self._what) from error


def _s32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
