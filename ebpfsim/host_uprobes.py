"""Attaching programs to functions and static tracepoints of a host's binaries, in the words of libbpf."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from struct import Struct
from typing import TYPE_CHECKING, cast

from ebpfsim.attached import AttachedLink
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.suggest import did_you_mean
from hooks.link import Link
from tracing.uprobe import BPF_F_UPROBE_MULTI_RETURN, MULTI
from tracing.user_binary import UsdtArg, UsdtNote, UserBinary, parse_usdt_arg

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.kernel import Kernel
    from ebpfsim.loader import Object, Program

__all__ = ["HostUprobes"]

# libbpf's usdt.bpf.h
USDT_SPECS, USDT_MAX_ARGS = "__bpf_usdt_specs", 12
_ARG, _SPEC_TAIL = Struct("<QIhBb"), Struct("<Qh6x")
# where programs are looked for that are named without a folder (libbpf's resolve_full_path)
SEARCH_PATHS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
LIBRARY_PATHS = ("/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu")
_FUNCTION = re.compile(r"^(?P<path>.*):(?P<function>[^:+]+)(\+(?P<off>0x[0-9a-fA-F]+|\d+))?$")


def _kind_of(arg: UsdtArg) -> int:
    # arg_type:8, idx_reg_off:12, scale_bitshift:4, reserved:8
    return arg.arg_type | arg.idx_reg_off << 8 | arg.scale_bitshift << 20


class HostUprobes:
    """The user space side of ``Host``."""

    name: str
    kernel: "Kernel"

    def prog(self, program: "Program | Prog | int") -> Prog:
        """Return the loaded program behind an object's program or a descriptor; KernelError EBADF."""
        raise NotImplementedError

    def user_binary(
        self,
        path: str,
        functions: Mapping[str, int] | Iterable[str] = (),
        *,
        usdt: Mapping[str, Iterable[str]] | None = None,
        elf: bytes = b"",
    ) -> UserBinary:
        """Let there be a binary at a path whose functions tasks can call and programs can probe.

        ``functions`` are names, perhaps with their offsets in the file; ``usdt`` static tracepoints PROVIDER:NAME with
        the places of their arguments. Or both are read of ``elf``, the bytes of a real file.
        """
        binary = UserBinary.read(path, elf) if elf else UserBinary.declare(path, functions, usdt)
        if path not in self.kernel.uprobes.binaries:
            self.kernel.vfs.add(path, elf or b"\x7fELF", mode=0o755)
        return self.kernel.uprobes.add(binary)

    def attach_uprobe(
        self,
        program: "Program | Prog | int",
        path: str,
        function: str | int,
        *,
        offset: int = 0,
        retprobe: bool = False,
        pid: int = -1,
        cookie: int = 0,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to a function of a binary, or to an offset in its file, by a perf event of its own."""
        uprobes, path = self.kernel.uprobes, self._path(path)
        event = uprobes.open(path, self._offset(path, function) + offset, is_return=retprobe, pid=pid)
        try:
            return self._held(uprobes.attach(self.prog(program), event, cookie, label))
        finally:
            event.put()

    def attach_uprobe_multi(
        self,
        program: "Program | Prog | int",
        path: str,
        functions: "str | Sequence[str]",
        *,
        cookies: Sequence[int] = (),
        retprobe: bool = False,
        pid: int = 0,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to functions of a binary, or to all that a pattern such as ``handle_*`` names."""
        path = self._path(path)
        binary = self.kernel.uprobes.binary(path)
        names = [functions] if isinstance(functions, str) else list(functions)
        found = [name for pattern in names for name in binary.functions if fnmatchcase(name, pattern)]
        if not found:
            raise KernelError("attach", Errno.ENOENT, f"no function of '{path}' matches '{' '.join(names)}'")
        offsets = [binary.functions[name].offset for name in found]
        flags = BPF_F_UPROBE_MULTI_RETURN if retprobe else 0
        return self._held(
            self.kernel.uprobes.attach_multi(self.prog(program), path, offsets, cookies, flags, pid, label)
        )

    def attach_usdt(
        self,
        program: "Program",
        obj: "Object",
        path: str,
        provider: str,
        name: str,
        *,
        pid: int = -1,
        cookie: int = 0,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to a static tracepoint (bpf_program__attach_usdt).

        Where its arguments are goes into the object's map ``__bpf_usdt_specs``, which libbpf's usdt.bpf.h brings.
        """
        path, prog = self._path(path), self.prog(program)
        binary = self.kernel.uprobes.binary(path)
        notes = binary.notes_of(provider, name)
        if not notes:
            known = [f"{note.provider}:{note.name}" for note in binary.notes]
            hint = did_you_mean(f"{provider}:{name}", known)
            raise KernelError("attach", Errno.ENOENT, f"'{path}' has no tracepoint '{provider}:{name}'{hint}")
        if USDT_SPECS not in obj.maps:
            raise InputError("", f"the object has no map '{USDT_SPECS}'", "#include <bpf/usdt.bpf.h>")
        specs = {note: self._add_spec(obj, note, cookie) for note in notes}
        offsets = [note.offset for note in notes]
        if prog.expected_attach_type in MULTI:
            link: Link = self.kernel.uprobes.attach_multi(
                prog, path, offsets, list(specs.values()), 0, max(0, pid), label
            )
            return self._held(link)
        if len(notes) > 1:
            raise KernelError("attach", Errno.EOPNOTSUPP, f"{provider}:{name} has {len(notes)} places")
        return self.attach_uprobe(prog, path, offsets[0], pid=pid, cookie=specs[notes[0]], label=label)

    def _add_spec(self, obj: "Object", note: UsdtNote, cookie: int) -> int:
        # the number of the spec goes to the program as its cookie
        if len(note.args) > USDT_MAX_ARGS:
            raise KernelError("attach", Errno.E2BIG, f"{note.provider}:{note.name} has {len(note.args)} arguments")
        found = obj.maps[USDT_SPECS]
        args = [parse_usdt_arg(text) for text in note.args]
        rows = [
            _ARG.pack(arg.val_off & (1 << 64) - 1, _kind_of(arg), arg.reg_off, arg.size < 0, arg.bitshift)
            for arg in args
        ]
        value = b"".join(rows).ljust(_ARG.size * USDT_MAX_ARGS, b"\0") + _SPEC_TAIL.pack(cookie, len(args))
        number = self.kernel.uprobes.next_spec(found.fd)
        self.kernel.bpf.map_update_elem(found.fd, number.to_bytes(4, "little"), value.ljust(found.value_size, b"\0"))
        return number

    def _path(self, path: str) -> str:
        if "/" in path:
            return path
        folders = LIBRARY_PATHS if ".so" in path else SEARCH_PATHS
        places = [f"{folder}/{path}" for folder in folders]
        return next((place for place in places if place in self.kernel.uprobes.binaries), path)

    def _offset(self, path: str, function: str | int) -> int:
        if isinstance(function, int):
            return function
        binary = self.kernel.uprobes.binary(path)
        found = binary.functions.get(function)
        if found is None:
            hint = did_you_mean(function, binary.functions)
            raise KernelError("attach", Errno.ENOENT, f"'{path}' has no function '{function}'{hint}")
        return found.offset

    def attach_to_user(
        self, kind: str, program: "Program", target: str, obj: "Object | None", label: str
    ) -> AttachedLink:
        """Attach a program where a section such as ``uprobe//usr/bin/app:handle+8`` says; ``kind`` is what it begins
        with."""
        if kind.startswith("usdt"):
            path, provider, name = [*target.rsplit(":", 2), "", ""][:3]
            if obj is None or not name:
                raise InputError("", f"'{target}' is not PATH:PROVIDER:NAME")
            return self.attach_usdt(program, obj, path, provider, name, label=label)
        parsed = _FUNCTION.match(target)
        if parsed is None:
            raise InputError("", f"'{target}' is not PATH:FUNCTION+OFFSET", "uprobe//usr/bin/app:handle")
        path, function, off = parsed["path"], parsed["function"], int(parsed["off"] or "0", 0)
        is_return = kind.startswith("uretprobe")
        if ".multi" in kind or ".session" in kind:
            return self.attach_uprobe_multi(program, path, function, retprobe=is_return, label=label)
        place: str | int = int(function, 0) if function[:1].isdigit() else function
        return self.attach_uprobe(program, path, place, offset=off, retprobe=is_return, label=label)

    def _held(self, link: Link) -> AttachedLink:
        return AttachedLink(cast("HostNet", self), link)
