"""Every way to attach every kind of program to what it does not belong to: a grid of errnos, for both kernels.

As a script, on a Linux: ``python attach_grid.py PART`` prints the answers. What would attach something to the machine
is only asked of one that is thrown away (part "tracing"); part "others" stays within a network namespace of its own.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable
from struct import pack
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import BpfCmd, MapType
from ebpfsim.uapi.bpf import ProgType as P
from ebpfsim.uapi.bpf_attr import ATTRS

# part "tracing": name, type, expected attach type, function it is for (kind of its BTF)
TRACING = [
    ("fentry", P.TRACING, A.TRACE_FENTRY, "bpf_fentry_test1"), ("fexit", P.TRACING, A.TRACE_FEXIT, "bpf_fentry_test1"),
    ("fmod_ret", P.TRACING, A.MODIFY_RETURN, "bpf_modify_return_test"),
    ("tp_btf", P.TRACING, A.TRACE_RAW_TP, "btf_trace_sys_enter"), ("iter", P.TRACING, A.TRACE_ITER, "bpf_iter_bpf_map"),
    ("lsm", P.LSM, A.LSM_MAC, "bpf_lsm_file_open"), ("lsm_cgroup", P.LSM, A.LSM_CGROUP, "bpf_lsm_socket_bind"),
    ("kprobe", P.KPROBE, A(0), ""), ("multi", P.KPROBE, A.TRACE_KPROBE_MULTI, ""),
    ("session", P.KPROBE, A.TRACE_KPROBE_SESSION, ""), ("uprobe.multi", P.KPROBE, A.TRACE_UPROBE_MULTI, ""),
    ("tracepoint", P.TRACEPOINT, A(0), ""), ("raw_tp", P.RAW_TRACEPOINT, A(0), ""),
    ("raw_tp.w", P.RAW_TRACEPOINT_WRITABLE, A(0), ""), ("perf_event", P.PERF_EVENT, A(0), ""),
]  # fmt: skip
APART = (P.UNSPEC, P.TRACING, P.LSM, P.EXT, P.STRUCT_OPS)
# not built into every Linux: netkit, and probes by fprobe
OPTIONAL = (A.NETKIT_PRIMARY, A.NETKIT_PEER, A.TRACE_KPROBE_MULTI, A.TRACE_KPROBE_SESSION)
KINDS = [kind for kind in range(57) if kind not in OPTIONAL]
DEVICES = (A.TCX_INGRESS, A.TCX_EGRESS, A.XDP)
TP_NAMES = ("", "\0", "sys_enter", "no_such_tp", "x" * 200, "sched:sched_switch")
NOT_OPEN, NOT_A_DEVICE = 9999, 1000


class Kernel:
    """The simulated kernel, by its bpf(2)."""

    def __init__(self, bpf: Any) -> None:
        self.bpf, self.types = bpf, vmlinux()

    def raw(self, command: BpfCmd, attr: bytes) -> int:
        """Make a call."""
        made: int = self.bpf.raw(command, bytearray(attr))
        return made

    def text(self, text: str) -> int:
        """Return where a text lies, 0 for none."""
        return self.bpf.user.alloc(256, text.encode() + b"\0") if text else 0

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self.bpf.close(fd)


class Linux(Kernel):
    """The kernel that this runs on."""

    def __init__(self, *, confined: bool) -> None:
        from ebpfsim.live import Bpf

        self.bpf, self._kept = Bpf(confined=confined), [object()][:0]
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            self.types = Btf(file.read(), where="vmlinux")

    def raw(self, command: BpfCmd, attr: bytes) -> int:
        """Make a call."""
        from ebpfsim.live.sys import bpf_bytes

        return bpf_bytes(command, attr)

    def text(self, text: str) -> int:
        """Return where a text lies, 0 for none."""
        from ebpfsim.live.sys import buffer

        made = buffer(text.encode() + b"\0")
        self._kept.append(made)
        return ctypes.addressof(made) if text else 0

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)


def _asker(kernel: Any) -> Callable[[BpfCmd, bytes], str]:
    def ask(command: BpfCmd, attr: bytes) -> str:
        try:
            made = kernel.raw(command, attr)
        except NotModelled as error:
            return str(error)
        except KernelError as error:
            return error.errno_name
        if command in (BpfCmd.LINK_CREATE, BpfCmd.RAW_TRACEPOINT_OPEN):
            kernel.close(made)
        return "ok"

    return ask


def _programs(kernel: Any, part: str) -> dict[str, int]:
    found = {}
    if part == "tracing":
        for name, prog_type, kind, function in TRACING:
            number = kernel.types.find(function, Kind.FUNC) or kernel.types.find(function, Kind.TYPEDEF) or 0
            code = encode(assemble("r0 = 0; exit"))
            found[name] = kernel.bpf.prog_load(prog_type, code, expected_attach_type=kind, attach_btf_id=number).fd
        return found
    for prog_type in P:
        for kind in range(60) if prog_type not in APART else ():
            for text in ("r0 = 0; exit", "r0 = 1; exit", "r0 = 3; exit"):
                try:
                    made = kernel.bpf.prog_load(prog_type, encode(assemble(text)), expected_attach_type=kind)
                except (KernelError, NotModelled):
                    continue
                found[f"{prog_type.lower}/{kind}"] = made.fd
                break
            if sum(name.startswith(f"{prog_type.lower}/") for name in found) == 2:
                break
    return found


def answers(kernel: Any, part: str, only: Callable[[int], bool] = lambda _number: True) -> dict[str, list[str]]:
    """Ask the rows of a part whose numbers are wanted."""
    ask, bpf, said, number = _asker(kernel), kernel.bpf, dict[str, list[str]](), 0
    maps = {kind.lower: bpf.map_create(kind, 4, 4, 1) for kind in (MapType.ARRAY, MapType.SOCKMAP)}
    xdp = bpf.prog_load(P.XDP, encode(assemble("r0 = 2; exit"))).fd
    for name, fd in _programs(kernel, part).items():
        targets = {"0": 0, **maps, "program": xdp, "closed": NOT_OPEN}
        for kind in KINDS:
            for word, target in targets.items():
                number += 1
                # what descriptor 0 is, and the device of that index, are the machine's business
                if word == "0" and (kind == A.PERF_EVENT or part == "others"):
                    continue
                if not only(number):
                    continue
                where = target + NOT_A_DEVICE if kind in DEVICES else target
                attached = {"target_fd": where, "attach_bpf_fd": fd, "attach_type": kind}
                rows = [ask(BpfCmd.LINK_CREATE, pack("<IIII", fd, where, kind, flags)) for flags in (0, 1)]
                rows.append(ask(BpfCmd.LINK_CREATE, pack("<IIIIIIQ", fd, where, kind, 0, 77, 0, 0)))
                commands = (BpfCmd.PROG_ATTACH, BpfCmd.PROG_DETACH)
                rows += [ask(command, bytes(ATTRS[command].pack(attached))) for command in commands]
                said[f"{name}, {kind}, {word}"] = rows
        if part == "tracing":
            rows = [ask(BpfCmd.RAW_TRACEPOINT_OPEN, pack("<QII", kernel.text(each), fd, 0)) for each in TP_NAMES]
            said[f"{name}, raw"] = rows
    return said


if __name__ == "__main__":
    from ebpfsim.live.sys import libc

    PART = sys.argv[1]
    if PART == "others":
        assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
    json.dump(answers(Linux(confined=PART == "others"), PART), sys.stdout)
