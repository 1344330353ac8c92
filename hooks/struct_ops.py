"""Tables of functions that programs implement: struct_ops (kernel/bpf/bpf_struct_ops.c, v6.18).

A filled map becomes a table. Each function that a program implements gets a trampoline of its own on a page of the
table; the table in RAM (``kvalue`` of the map) holds their addresses. What a table means is a subsystem's business
(``struct bpf_struct_ops``): it looks at members, validates, registers and replaces whole tables.

Differs: a map that replaces itself on its link is refused with EBUSY, where Linux corrupts the list of its subsystem.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Any, ClassVar, Protocol, cast

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, Member, Ptr
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map
from ebpfsim.maps.struct_ops import StructOpsMap, is_function
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.frame import pop_frame, push_frame
from hooks.func_model import func_model
from hooks.link import HookStats, LinkBase, LinkKernel, note
from hooks.point import Opts
from hooks.run import Execute, bpf_prog_run
from hooks.text import function_address, prog_text_address
from hooks.trampoline import IMAGE_BYTES, TrampKernel
from hooks.trampoline_image import prepare_indirect

__all__ = ["OpsMember", "StructOps", "StructOpsLink", "StructOpsTable", "Subsystem"]

HOOK = "struct_ops"
OWNER = "module"  # the type of the member that says which module a table belongs to
_HEAD = Struct("<QQ")  # in front of the context: nothing, how many words


class StructOpsKernel(TrampKernel, LinkKernel, Protocol):
    """What tables and their links need of a kernel."""


class Subsystem(Protocol):
    """What a kind of tables is for (``struct bpf_struct_ops``). Methods refuse with KernelError."""

    name: str

    def init_member(self, table: "StructOpsTable", member: str, value: bytes) -> bool:
        """Look at a member's bytes; True when it is data that the subsystem takes over."""
        ...

    def validate(self, table: "StructOpsTable") -> None:
        """Look at a whole table."""
        ...

    def register(self, table: "StructOpsTable") -> None:
        """Take a table into use."""
        ...

    def unregister(self, table: "StructOpsTable") -> None:
        """Take it out of use; cannot fail."""
        ...

    def update(self, new: "StructOpsTable", old: "StructOpsTable") -> None:
        """Put a table in the place of another one."""
        ...


class DummyOps:
    """bpf_dummy_ops: for test runs only (net/bpf/bpf_dummy_struct_ops.c)."""

    name = "bpf_dummy_ops"

    def init_member(self, table: "StructOpsTable", member: str, value: bytes) -> bool:
        """Refuse every member: EOPNOTSUPP."""
        raise KernelError("map_update_elem", Errno.EOPNOTSUPP, f"{table.map.title}: a {self.name} is for test runs")

    def validate(self, table: "StructOpsTable") -> None:
        """Never asked."""

    def register(self, table: "StructOpsTable") -> None:
        """Never asked."""

    def unregister(self, table: "StructOpsTable") -> None:
        """Never asked."""

    def update(self, new: "StructOpsTable", old: "StructOpsTable") -> None:
        """Never asked."""


class OpsMember:
    """A function of a table, which a program implements: ``symbol`` is its trampoline's name, ``address`` its place."""

    cookie = 0

    def __init__(self, table: "StructOpsTable", name: str, prog: Prog) -> None:
        """Take over the caller's reference on the program."""
        target = prog.attach_target
        assert target is not None
        self.table = table
        self.name = name
        self.prog = prog
        self.symbol = f"bpf__{table.struct_name}_{name}"
        self.model = func_model(target.btf, target.proto)
        self.prog_addr, self.code_addr = prog.image_addr, prog_text_address(prog)
        # bpf_prog_check_recur: no check
        suffix = "_sleepable" if prog.sleepable else ""
        self.enter_addr = function_address(f"__bpf_prog_enter{suffix}")
        self.exit_addr = function_address(f"__bpf_prog_exit{suffix}")
        self.address = self.size = 0
        self._words = Struct(f"<{self.model.nr_words}Q")
        self._frame_bytes = -(-(_HEAD.size + self._words.size) // 16) * 16

    def __call__(self, cpu: Cpu, *args: int) -> int:
        """Call the function with its arguments, word by word; return its result, 0 for a function without one."""
        table, kernel, prog = self.table, self.table.ops.kernel, self.prog
        start_ns = cpu.now_ns
        cpu.charge(table.ops.charge_ps)
        frame = push_frame(kernel.mem, cpu, self._frame_bytes)
        try:
            words = self._words.pack(*self.model.words(args))
            kernel.mem.write(frame, _HEAD.pack(0, self.model.nr_words) + words)
            ran = bpf_prog_run(kernel, prog, frame + _HEAD.size, cpu, table.ops.execute)
        finally:
            pop_frame(kernel.mem, cpu, frame, self._frame_bytes)
        table.stats.count("", ran.cost_ps + table.ops.charge_ps, 0)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, HOOK, f"{table.title}.{self.name}", table.label, prog.id, prog.name,
                ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return self.model.result(self.model.ret_word(ran.r0))


class StructOpsTable:
    """A table of functions. ``members`` are those that programs implement, ``data`` the bytes of other members.

    ``address`` is where the kernel's structure lies, ``link`` what attached it, if a link did.
    """

    def __init__(self, ops: "StructOps", subsystem: Subsystem, map_: StructOpsMap) -> None:
        self.ops = ops
        self.subsystem = subsystem
        self.map = map_
        self.struct_name = map_.struct_name
        self.address = map_.kvalue + map_.ops_off
        self.members: dict[str, OpsMember] = {}
        self.data: dict[str, bytes] = {}
        self.link: StructOpsLink | None = None
        self.own_label = ""
        self._stats = HookStats()
        self._image: Any = None

    @property
    def title(self) -> str:
        """Its map's name, or its type."""
        return self.map.name or self.struct_name

    @property
    def label(self) -> str:
        """Its name in records: that of its link."""
        return self.link.label if self.link is not None else self.own_label

    @property
    def stats(self) -> HookStats:
        """What its runs came to, those of its link when it has one."""
        return self.link.stats if self.link is not None else self._stats

    def place(self) -> None:
        """Generate the trampolines and write their addresses into the structure."""
        if not self.members:
            return
        kernel = self.ops.kernel
        image = kernel.text.reserve(f"bpf_struct_ops_{self.map.id}", IMAGE_BYTES)
        code = b""
        for member in self.members.values():
            member.address = image.address + len(code)
            piece = prepare_indirect(member.model, member, member.address)
            member.size = len(piece)
            code += piece
        # pages are counted
        kernel.text.publish(image, code, charge=IMAGE_BYTES)
        self._image = image

    def register(self) -> None:
        """Give it to its subsystem."""
        self.subsystem.register(self)
        self.note("attach")

    def unregister(self) -> None:
        """Take it from its subsystem; those who use it may go on."""
        self.subsystem.unregister(self)
        self.note("detach")

    def release(self) -> None:
        """Let go of the programs; the code goes after a grace period."""
        for member in self.members.values():
            member.prog.put()
        self.members = {}
        if self._image is not None:
            self.ops.kernel.text.retire(self._image)
            self._image = None

    def note(self, kind: str) -> None:
        """Record that it was attached or detached."""
        details: dict[str, int | str] = {"hook": HOOK, "target": self.struct_name, "map_id": self.map.id}
        text = f"{HOOK} {kind}: map '{self.title}' (id {self.map.id}) as {self.struct_name}"
        note(self.ops.kernel, kind, text, details | {"link": self.label})


class StructOpsLink(LinkBase):
    """A link that keeps a table registered (``struct bpf_struct_ops_link``)."""

    type: ClassVar[LinkType] = LinkType.STRUCT_OPS

    def __init__(self, kernel: LinkKernel, label: str = "") -> None:
        super().__init__(kernel, AttachType.STRUCT_OPS, label)
        self.map: StructOpsMap | None = None

    def attach(self, map_: StructOpsMap) -> None:
        """Register a map's table and keep the map; KernelError when the subsystem refuses."""
        table = cast(StructOpsTable, map_.table)
        table.link = self
        try:
            table.register()
        except KernelError:
            table.link = None
            raise
        map_.get()
        self.map = map_

    def fill_link_info(self) -> dict[str, object]:
        """Return the map's id, 0 when it was detached."""
        return {"map_id": self.map.id if self.map is not None else 0}

    def update_map(self, new: Map, old: Map | None = None) -> None:
        """Put another map in the place of the one attached; ``old`` is what BPF_F_REPLACE expects."""
        op = "link_update"
        if not isinstance(new, StructOpsMap) or not new.valid_to_reg:
            raise KernelError(op, Errno.EINVAL, f"{new.title} is not ready for a link")
        current = self.map
        if current is None:
            raise KernelError(op, Errno.ENOLINK, "the link was detached")
        if old is not None and old is not current:
            raise KernelError(op, Errno.EPERM, f"{current.title} is attached, not the expected map")
        if new.struct_id != current.struct_id:
            raise KernelError(op, Errno.EINVAL, f"{new.title} is a {new.struct_name}, expected {current.struct_name}")
        if new is current:
            raise KernelError(op, Errno.EBUSY, f"{new.title} is attached already, which breaks Linux")
        table, before = cast(StructOpsTable, new.table), cast(StructOpsTable, current.table)
        table.subsystem.update(table, before)
        table.link, before.link = self, None
        new.get()
        self.map = new
        note(
            self.kernel,
            "update",
            f"{HOOK} update: map '{table.title}' (id {new.id}) for '{before.title}' (id {current.id})",
            {"hook": HOOK, "target": table.struct_name, "map_id": new.id, "link": self.label},
        )
        current.put()

    def detach(self) -> None:
        """Unregister and let go of the map; a second time does nothing."""
        self.release()

    def release(self) -> None:
        """Unregister the table if it still is registered."""
        if self.map is None:
            return
        map_, self.map = self.map, None
        table = cast(StructOpsTable, map_.table)
        table.unregister()
        table.link = None
        map_.put()


class StructOps:
    """The tables of one kernel: makes them of maps, and links them."""

    def __init__(
        self, kernel: Any, subsystems: Iterable[Subsystem], execute: Execute, *, retpoline: bool = True
    ) -> None:
        self.kernel: StructOpsKernel = kernel
        self.subsystems = {each.name: each for each in (DummyOps(), *subsystems)}
        self.execute = execute
        costs = kernel.costs
        self.charge_ps = costs.ps(HOOK)
        if retpoline:
            self.charge_ps += costs.ps("call.indirect.retpoline") - costs.ps("call.indirect")

    def make(self, map_: StructOpsMap, value: bytearray) -> StructOpsTable | None:
        """Return the table of a map's value, with ids of programs written over their descriptors."""
        btf = vmlinux()
        struct = btf.type(map_.struct_id)
        assert isinstance(struct, Composite)
        table = StructOpsTable(self, self.subsystems[map_.struct_name], map_)
        data = memoryview(value)[map_.ops_off :]
        try:
            for number, member in enumerate(struct.members):
                at = member.bit_off // 8
                field = data[at : at + sizeof(btf, member.type_id)]
                if _is_owner(member):
                    if any(field):
                        # goto reset_unlock, with what the member before it left in err: nobody is told
                        table.release()
                        return None
                elif not table.subsystem.init_member(table, member.name, bytes(field)):
                    _init_function(table, number, member, field)
            table.place()
            table.subsystem.validate(table)
        except BaseException:
            table.release()
            raise
        _write(table, struct)
        return table

    def link_create(self, map_: Map, _flags: int, _opts: Opts, label: str = "") -> StructOpsLink:
        """Attach a map by a link and return it (bpf_struct_ops_link_create); flags are not looked at."""
        if not isinstance(map_, StructOpsMap) or not map_.valid_to_reg:
            raise KernelError("link_create", Errno.EINVAL, f"{map_.title} is not ready for a link")
        link = StructOpsLink(self.kernel, label)
        try:
            link.attach(map_)
        except KernelError:
            link.put()
            raise
        return link


def _is_owner(member: Member) -> bool:
    pointer = vmlinux().resolved(member.type_id)
    return isinstance(pointer, Ptr) and vmlinux().resolved(pointer.type_id).name == OWNER


def _init_function(table: StructOpsTable, number: int, member: Member, field: memoryview) -> None:
    # only functions and zeroes are left
    op = "map_update_elem"
    if not is_function(member):
        if any(field):
            raise KernelError(op, Errno.EINVAL, f"{table.map.title}: member {member.name} is not zero")
        return
    fd = int.from_bytes(field[:4], "little", signed=True)
    if not fd:
        return
    prog = cast(Prog, table.map.prog_by_fd(fd))
    target = prog.attach_target
    fits = prog.type == ProgType.STRUCT_OPS and target is not None and target.id == table.map.struct_id
    if not fits or prog.expected_attach_type != number:
        raise KernelError(op, Errno.EINVAL, f"program '{prog.name}' is not for {table.struct_name}.{member.name}")
    prog.get()
    table.members[member.name] = OpsMember(table, member.name, prog)
    field[:] = prog.id.to_bytes(8, "little")


def _write(table: StructOpsTable, struct: Composite) -> None:
    mem = table.ops.kernel.mem
    for member in struct.members:
        at = table.address + member.bit_off // 8
        if member.name in table.members:
            mem.store(at, 8, table.members[member.name].address)
        elif member.name in table.data:
            mem.write(at, table.data[member.name])
