"""bpf(2) for a task that is not root: what each capability allows (kernel/bpf/syscall.c, v6.18).

Programs of tasks without CAP_BPF or CAP_PERFMON are verified by the rules for such (``ebpfsim.verifier.sanitize``).

Differs: a map that is malformed and not allowed gives EPERM here; Linux looks at the attributes of some types first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum

from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.prog_load import KNOWN_FLAGS
from ebpfsim.suggest import did_you_mean
from ebpfsim.syscall.bpf import Bpf
from ebpfsim.syscall.results import Info, Loaded, ProgInfo
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.verifier.env import Privileges

__all__ = ["SYSCTL", "Cap", "TaskBpf", "capabilities"]


class Cap(Enum):
    """The capabilities that bpf(2) asks for, by their names in include/uapi/linux/capability.h."""

    NET_ADMIN = "CAP_NET_ADMIN"
    SYS_ADMIN = "CAP_SYS_ADMIN"
    PERFMON = "CAP_PERFMON"
    BPF = "CAP_BPF"


SYSCTL = "kernel.unprivileged_bpf_disabled"
UNPRIVILEGED_BPF_DISABLED = 2  # CONFIG_BPF_UNPRIV_DEFAULT_OFF
BPF_MAXINSNS = 4096

# maps that map_create() gives to anybody, and to those who may change the network; CAP_BPF is for the others
_UNPRIVILEGED_MAPS = frozenset(
    {
        *(MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.PROG_ARRAY, MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY),
        *(MapType.ARRAY_OF_MAPS, MapType.HASH, MapType.PERCPU_HASH, MapType.HASH_OF_MAPS, MapType.RINGBUF),
        *(MapType.USER_RINGBUF, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE),
    }
)
_NET_MAPS = frozenset({MapType.SOCKMAP, MapType.SOCKHASH, MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.XSKMAP})
_UNPRIVILEGED_PROGS = (ProgType.SOCKET_FILTER, ProgType.CGROUP_SKB)
# is_net_admin_prog_type(), is_perfmon_prog_type()
_NET_PROGS = frozenset(
    {
        *(ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.XDP, ProgType.LWT_IN, ProgType.LWT_OUT, ProgType.LWT_XMIT),
        *(ProgType.LWT_SEG6LOCAL, ProgType.SK_SKB, ProgType.SK_MSG, ProgType.FLOW_DISSECTOR, ProgType.CGROUP_DEVICE),
        *(ProgType.CGROUP_SOCK, ProgType.CGROUP_SOCK_ADDR, ProgType.CGROUP_SOCKOPT, ProgType.CGROUP_SYSCTL),
        *(ProgType.SOCK_OPS, ProgType.EXT, ProgType.NETFILTER),
    }
)
_PERFMON_PROGS = frozenset(
    {
        *(ProgType.KPROBE, ProgType.TRACEPOINT, ProgType.PERF_EVENT, ProgType.RAW_TRACEPOINT),
        *(ProgType.RAW_TRACEPOINT_WRITABLE, ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS, ProgType.EXT),
    }
)


def capabilities(caps: Iterable[str]) -> frozenset[Cap]:
    """Return capabilities by their names; InputError for one that bpf(2) does not ask for."""
    found = set()
    for name in caps:
        try:
            found.add(Cap(name))
        except ValueError:
            names = [cap.value for cap in Cap]
            raise InputError("caps", f"no capability '{name}'{did_you_mean(name, names)}", ", ".join(names)) from None
    return frozenset(found)


class TaskBpf(Bpf):
    """bpf(2) for a task with some capabilities; descriptors, pins and all else are those of the host's other tasks."""

    __slots__ = ("caps",)

    def __init__(self, bpf: Bpf, caps: frozenset[Cap]) -> None:
        # one state for all tasks: only the capabilities are the task's own
        self.__dict__ = bpf.__dict__
        self.caps = caps

    def capable(self, cap: Cap) -> bool:
        """Say whether the task has a capability; CAP_SYS_ADMIN stands for the others (``bpf_token_capable``)."""
        return cap in self.caps or Cap.SYS_ADMIN in self.caps

    def _need(self, op: str, cap: Cap) -> None:
        if not self.capable(cap):
            raise KernelError(op, Errno.EPERM, f"needs {cap.value}")

    def _need_bpf_where_disabled(self, op: str) -> None:
        if int(self.kernel.config.sysctl.get(SYSCTL, UNPRIVILEGED_BPF_DISABLED)):
            self._need(op, Cap.BPF)

    # ---- objects ----------------------------------------------------------------------------------------------------

    def map_create(
        self,
        map_type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        *,
        map_flags: int = 0,
        name: str = "",
        inner_map_fd: int = 0,
        map_extra: int = 0,
        btf_fd: int = 0,
        btf_key_type_id: int = 0,
        btf_value_type_id: int = 0,
        btf_vmlinux_value_type_id: int = 0,
        numa_node: int = 0,
    ) -> int:
        """BPF_MAP_CREATE; EPERM where the capabilities do not reach."""
        op = "map_create"
        if map_type in set(MapType):
            self._need_bpf_where_disabled(op)
            if map_type in _NET_MAPS:
                self._need(op, Cap.NET_ADMIN)
            elif map_type not in _UNPRIVILEGED_MAPS:
                self._need(op, Cap.BPF)
        fd = super().map_create(
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags=map_flags,
            name=name,
            inner_map_fd=inner_map_fd,
            map_extra=map_extra,
            btf_fd=btf_fd,
            btf_key_type_id=btf_key_type_id,
            btf_value_type_id=btf_value_type_id,
            btf_vmlinux_value_type_id=btf_vmlinux_value_type_id,
            numa_node=numa_node,
        )
        self._map(op, fd).bypass_spec = self._privileges.bypass_spec
        return fd

    @property
    def _privileges(self) -> Privileges:
        perfmon = self.capable(Cap.PERFMON)
        unmitigated = self.kernel.config.mitigations == "off"
        return Privileges(self.capable(Cap.BPF), allow_ptr_leaks=perfmon, bypass_spec=perfmon or unmitigated)

    def prog_load(
        self,
        prog_type: int,
        insns: bytes,
        *,
        name: str = "",
        license: str = "GPL",  # noqa: A002
        expected_attach_type: int = 0,
        prog_flags: int = 0,
        attach_btf_id: int = 0,
        attach_prog_fd: int = 0,
        prog_btf_fd: int = 0,
        func_info: bytes = b"",
        line_info: bytes = b"",
        fd_array: Sequence[int] = (),
        log_level: int = 0,
        ifindex: int = 0,
    ) -> Loaded:
        """BPF_PROG_LOAD; EPERM where the capabilities do not reach."""
        self._check_load(prog_type, len(insns) // 8, prog_flags)
        return super().prog_load(
            prog_type,
            insns,
            name=name,
            license=license,
            expected_attach_type=expected_attach_type,
            prog_flags=prog_flags,
            attach_btf_id=attach_btf_id,
            attach_prog_fd=attach_prog_fd,
            prog_btf_fd=prog_btf_fd,
            func_info=func_info,
            line_info=line_info,
            fd_array=fd_array,
            log_level=log_level,
            ifindex=ifindex,
        )

    def _check_load(self, prog_type: int, nr_insns: int, prog_flags: int) -> None:
        op = "prog_load"
        if prog_flags & ~KNOWN_FLAGS:
            raise KernelError(op, Errno.EINVAL, f"prog_flags {prog_flags:#x}")
        self._need_bpf_where_disabled(op)
        if not self.capable(Cap.BPF) and not 0 < nr_insns <= BPF_MAXINSNS:
            raise KernelError(op, Errno.E2BIG, f"{nr_insns} instructions, 1 to {BPF_MAXINSNS} are allowed")
        if prog_type not in _UNPRIVILEGED_PROGS:
            self._need(op, Cap.BPF)
        if prog_type in _NET_PROGS:
            self._need(op, Cap.NET_ADMIN)
        if prog_type in _PERFMON_PROGS:
            self._need(op, Cap.PERFMON)

    def btf_load(self, data: bytes, *, log_level: int = 0) -> int:
        """BPF_BTF_LOAD: for CAP_BPF."""
        self._need("btf_load", Cap.BPF)
        return super().btf_load(data, log_level=log_level)

    def enable_stats(self, kind: int) -> int:
        """BPF_ENABLE_STATS: for CAP_SYS_ADMIN."""
        self._need("enable_stats", Cap.SYS_ADMIN)
        return super().enable_stats(kind)

    # ---- ids: for CAP_SYS_ADMIN -------------------------------------------------------------------------------------

    def prog_get_next_id(self, start_id: int) -> int:
        """Return the lowest program id above ``start_id``."""
        self._need("prog_get_next_id", Cap.SYS_ADMIN)
        return super().prog_get_next_id(start_id)

    def map_get_next_id(self, start_id: int) -> int:
        """Return the lowest map id above ``start_id``."""
        self._need("map_get_next_id", Cap.SYS_ADMIN)
        return super().map_get_next_id(start_id)

    def link_get_next_id(self, start_id: int) -> int:
        """Return the lowest link id above ``start_id``."""
        self._need("link_get_next_id", Cap.SYS_ADMIN)
        return super().link_get_next_id(start_id)

    def btf_get_next_id(self, start_id: int) -> int:
        """Return the lowest BTF id above ``start_id``."""
        self._need("btf_get_next_id", Cap.SYS_ADMIN)
        return super().btf_get_next_id(start_id)

    def prog_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of a program."""
        self._need("prog_get_fd_by_id", Cap.SYS_ADMIN)
        return super().prog_get_fd_by_id(object_id)

    def map_get_fd_by_id(self, object_id: int, *, open_flags: int = 0) -> int:
        """Return a new descriptor of a map."""
        self._need("map_get_fd_by_id", Cap.SYS_ADMIN)
        return super().map_get_fd_by_id(object_id, open_flags=open_flags)

    def link_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of a link."""
        self._need("link_get_fd_by_id", Cap.SYS_ADMIN)
        return super().link_get_fd_by_id(object_id)

    def btf_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of BTF."""
        self._need("btf_get_fd_by_id", Cap.SYS_ADMIN)
        return super().btf_get_fd_by_id(object_id)

    def obj_get_info_by_fd(self, fd: int) -> Info:
        """Return what the kernel tells of an object: without CAP_BPF nothing of a program's instructions."""
        info = super().obj_get_info_by_fd(fd)
        if isinstance(info, ProgInfo) and not self.capable(Cap.BPF):
            return _without_code(info)
        return info


def _without_code(info: ProgInfo) -> ProgInfo:
    # bpf_prog_get_info_by_fd(): func_info, line_info and tags go with the instructions
    return replace(info, xlated_prog_len=0, xlated_prog_insns=b"", func_info=b"", line_info=b"", prog_tags=())
