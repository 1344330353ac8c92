"""The composition root: one simulated kernel, put together from its rooms.

Only this module knows all of them. Rooms see each other through the Protocols that they declare
(``progs.runtime.Runtime``, ``syscall.kernel.BpfKernel``, ``hooks.link.LinkKernel``, ``netstack.net.NetKernel``).
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import cache, cached_property, partial
from types import SimpleNamespace
from typing import Any, cast

from ebpfsim import task_bpf
from ebpfsim.audit import AuditLog
from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.costs import load_profile
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError, KernelOops, NotModelled
from ebpfsim.helpers import (
    btf_show,
    csum,
    dynptr,
    loop,
    misc,
    objects,
    perf,
    probe,
    seq,
    storage,
    time,
    timer,
    trace,
    trampoline,
    user,
)
from ebpfsim.helpers import map as map_helpers
from ebpfsim.helpers import ringbuf as ringbuf_helpers
from ebpfsim.helpers.checked import checked_helpers
from ebpfsim.helpers.kfunc_table import KFUNC_HELPERS
from ebpfsim.jit.engine import compile_for, execute, unavailable
from ebpfsim.jit.routines.user import hash_calls
from ebpfsim.maps.hash import HashMap, NativeCalls
from ebpfsim.maps.local_storage import LocalStorageMap
from ebpfsim.maps.map import Map
from ebpfsim.maps.struct_ops import OpsMaker, StructOpsMap
from ebpfsim.memory import Memory
from ebpfsim.objects import FdTable, IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.recorder import Recorder
from ebpfsim.rng import Rng
from ebpfsim.syscall import Bpf
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_NAMES
from ebpfsim.verifier.verify import LoadAttr, Verified, verify
from ebpfsim.vm.callback import Callbacks
from hooks.attach import attach_table
from hooks.cgroup import CgroupTree
from hooks.dispatcher import Dispatcher
from hooks.iter import points as iter_points
from hooks.lsm_cgroup import points as lsm_cgroup_points
from hooks.netfilter import Netfilter
from hooks.netfilter import points as netfilter_points
from hooks.netns import NetNs
from hooks.struct_ops import StructOps
from hooks.text import KernelText
from hooks.tracing import freplace_creator
from hooks.tracing import points as trampoline_points
from hooks.trampoline import Trampolines
from netstack.bpf_net_context import bpf_net_context
from netstack.device import NetDevice
from netstack.helpers import HELPERS as NET_HELPERS
from netstack.net import Net
from netstack.proc_net import proc_net_files
from netstack.sock_iter import TARGETS as SOCKET_ITERATORS
from netstack.socket_rooms import SOCKET_ROOMS, SOCKET_SYSCALL_ROOMS
from netstack.sockfs import Sockfs
from netstack.tcp_cong import BpfTcpCa
from netstack.tcp_cong_kfuncs import KFUNCS as CONG_KFUNCS
from netstack.unix_kfuncs import KFUNCS as UNIX_KFUNCS
from tracing import cgroup_sysctl, hrtimer, perf_event, pidfd, sched_functions, uprobe
from tracing import irq as interrupts
from tracing import more_kfuncs as more
from tracing import stack as stacks
from tracing import storage as object_storage
from tracing.bpf_test_run import TestFunctions, TracepointFunctions
from tracing.faults import EXCEPTION_TRACEPOINTS, watch_pages
from tracing.fs import bound
from tracing.functions import KernelFunctions
from tracing.helpers import HELPERS as TRACING_HELPERS
from tracing.iter import TARGETS as TASK_ITERATORS
from tracing.kprobe import Kprobes
from tracing.kprobe import points as kprobe_points
from tracing.lsm import add_security_hooks
from tracing.paths import add_paths
from tracing.perf_tracepoint import PerfTracepoints
from tracing.raw_tracepoint import points as tracepoint_points
from tracing.raw_tracepoint import raw_tracepoint_opener
from tracing.rooms import FUNCTION_ROOMS, SYSCALL_ROOMS
from tracing.sched import Scheduler
from tracing.syscalls import Syscalls
from tracing.task_helpers import HELPERS as TASK_HELPERS
from tracing.task_kfuncs import KFUNCS as TASK_KFUNCS
from tracing.trace_pipe import TracePipe
from tracing.tracepoints import SCHED_TRACEPOINTS, SYSCALL_TRACEPOINTS, Tracepoints
from tracing.vfs import Vfs

__all__ = ["Kernel"]

# rooms of the kernel, as modules of functions that take their kernel first
SCHED_MODULES = (sched_functions, hrtimer, interrupts)
FUNCTION_MODULES = (
    *FUNCTION_ROOMS,
    object_storage,
    *SCHED_MODULES,
    perf_event,
    *SOCKET_ROOMS,
    task_bpf,
)
SYSCALL_MODULES = (*SYSCALL_ROOMS, pidfd, *SOCKET_SYSCALL_ROOMS, task_bpf)


# programs call these by name
KFUNC_HELPERS.update(TASK_KFUNCS | more.KFUNCS | CONG_KFUNCS | UNIX_KFUNCS)


class MapTable(IdTable[Map]):
    """The maps of a kernel, by id and by the address that programs hold."""

    def __init__(self, make_native: Callable[[HashMap], NativeCalls | None]) -> None:
        super().__init__()
        self.by_address: dict[int, Map] = {}
        self._make_native = make_native
        self.struct_ops: OpsMaker | None = None

    def add(self, obj: Map) -> int:
        """Give the map its id and make its address known."""
        self.by_address[obj.address] = obj
        if isinstance(obj, HashMap):
            obj.make_native = self._make_native
        elif isinstance(obj, StructOpsMap):
            obj.maker = self.struct_ops
        return super().add(obj)

    def remove(self, obj: Map) -> None:
        """Forget the map."""
        self.by_address.pop(obj.address, None)
        super().remove(obj)


class NamespaceBpf:
    """bpf(2) as a task in another network namespace calls it."""

    def __init__(self, kernel: "Kernel", net: Net) -> None:
        self._kernel, self._net = kernel, net

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._kernel.bpf, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        kernel = self._kernel
        before, kernel.current_net = kernel.current_net, self._net
        try:
            return function(*args, **options)
        finally:
            kernel.current_net = before


class Kernel:
    """One simulated kernel. ``mem``, ``clock``, ``rng`` and ``recorder`` belong to the simulation it is part of."""

    def __init__(
        self, name: str, config: KernelConfig, mem: Memory, clock: Clock, rng: Rng, recorder: Recorder, index: int
    ) -> None:
        self.name = name
        self.config = config
        self.mem = mem
        if config.debug:
            mem.track()
        self.clock = clock
        self.rng = rng
        self.recorder = recorder
        self.costs = load_profile(config.costs)
        self.cpus = [Cpu(number, clock, mem) for number in range(config.cpus)]
        self.helpers: Mapping[int, Helper] = checked_helpers(_all_helpers()) if config.debug else _all_helpers()
        self.progs: IdTable[Prog] = IdTable()
        self._map_table = MapTable(self._map_calls)
        self.maps: IdTable[Map] = self._map_table
        self.links: IdTable[KernelObject] = IdTable()
        self.btfs: IdTable[KernelObject] = IdTable()
        self.fds = FdTable()
        self.trace_pipe = TracePipe()
        self.audit = AuditLog(clock)
        self.text = KernelText(self)
        self.xdp_dispatcher = Dispatcher(self, text=self.text, retpoline=config.mitigations != "off")
        self.cgroups: CgroupTree = CgroupTree(self)
        self.netns = NetNs(self)
        self.netfilter = Netfilter(self)
        self.functions = KernelFunctions()
        self.tracepoints = Tracepoints(self, execute)
        self.net = Net(self, index)
        # the namespace of the task that calls bpf(2)
        self.current_net = self.net
        self.cgroup_runner = self.net.cgroup_bpf
        self.functions.add(TestFunctions(mem))
        self.execute = execute
        self.kprobes = Kprobes(self)
        self.irqs = interrupts.Irqs(self)
        self.tracepoints.declare(*SCHED_TRACEPOINTS, *SYSCALL_TRACEPOINTS, *interrupts.IRQ_TRACEPOINTS)
        self.tracepoints.declare(*EXCEPTION_TRACEPOINTS)
        self.perf_tracepoints = PerfTracepoints(self)
        self.perf_events = perf_event.PerfEvents(self)
        self.uprobes = uprobe.Uprobes(self)
        self.trace = self.tracepoints.fire
        self.functions.add(TracepointFunctions(self.tracepoints))
        self.functions.add_later(self._call_paths)
        add_security_hooks(self.functions, mem)
        add_paths(self.functions, self)
        # walks of paths under way, by the address of their ``struct nameidata``
        self.walks: dict[int, Any] = {}
        self.trampolines = Trampolines(self, execute)
        iterators = iter_points(self, [TASK_ITERATORS, SOCKET_ITERATORS])
        self.attach_table = attach_table(
            self,
            [
                trampoline_points(self),
                tracepoint_points(self),
                kprobe_points(self),
                uprobe.points(self),
                netfilter_points(self, lambda: self.current_net.hooks[1]),
                lsm_cgroup_points(self, self.net.cgroup_bpf.run_lsm),
                iterators,
            ],
        )
        self.attach_table.freplace = freplace_creator(self)
        self.attach_table.raw_tracepoint = raw_tracepoint_opener(self)
        self.tcp_ca = self.net.tcp_cong
        retpoline = config.mitigations != "off"
        self.struct_ops = StructOps(self, [BpfTcpCa(self.tcp_ca)], execute, retpoline=retpoline)
        self._map_table.struct_ops = self.struct_ops
        self.attach_table.struct_ops = self.struct_ops.link_create
        self._callbacks = Callbacks(self)
        self.bpf = Bpf(self)

    @property
    def stats_enabled(self) -> bool:
        """Whether run statistics are kept: by the sysctl or while somebody holds a descriptor of BPF_ENABLE_STATS."""
        return self.bpf.stats_enabled

    @cached_property
    def sched(self) -> Scheduler:
        """The tasks and who runs; made when first asked for."""
        sched = Scheduler(self, self.tracepoints.fire, self.cgroups.root)
        sched.on_release = lambda task: self.forget_owner(MapType.TASK_STORAGE, task.address)
        sched.on_memory = lambda user: watch_pages(self, user)
        return sched

    @cached_property
    def vfs(self) -> Vfs:
        """The files; made when first asked for."""
        vfs = Vfs(self.mem)
        vfs.on_evict = lambda inode: self.forget_owner(MapType.INODE_STORAGE, inode.address)
        return vfs

    @cached_property
    def sockfs(self) -> Sockfs:
        """The sockets of tasks; made when first asked for."""
        return Sockfs(self.vfs, self.walks)

    @cached_property
    def syscalls(self) -> Syscalls:
        """The system calls that tasks make."""
        return Syscalls(self, SYSCALL_MODULES)

    def _call_paths(self) -> Iterable[object]:
        # the functions that system calls go through
        return [*(bound(module, self) for module in FUNCTION_MODULES), SimpleNamespace(**self.syscalls.entries)]

    def map_at(self, address: int) -> Map:
        """Return the map whose ``struct bpf_map`` is at that address."""
        found = self._map_table.by_address.get(address)
        if found is None:
            raise KernelOops("access to a map that does not exist", address=address)
        return found

    def forget_owner(self, kind: MapType, address: int) -> None:
        """Remove what maps of a type have of a socket, task, inode or cgroup that goes (bpf_local_storage_destroy)."""
        for map_ in self.maps:
            if map_.type == kind:
                assert isinstance(map_, LocalStorageMap)
                map_.forget(address)

    def net_namespace_address(self) -> int:
        """Return where the ``struct net`` of tasks lies, 0 without tasks."""
        return self.sched.namespaces.net if "sched" in self.__dict__ else 0

    def interrupt(self, cpu: Cpu, name: str, handler: Callable[[], None]) -> None:
        """Let a device's interrupt come on a CPU; who looks at none of them sees the handler alone."""
        if self.tracepoints.observed(*interrupts.IRQ_TRACEPOINTS[:2]) or self.functions.observed(
            *interrupts.IRQ_FUNCTIONS
        ):
            self.irqs.interrupt(cpu, name, handler)
        else:
            handler()

    def map_by_fd(self, fd: int) -> Map | None:
        """Return the map behind a descriptor, None when it is not open; EINVAL for something else."""
        obj = self.fds.lookup(fd)
        if obj is not None and not isinstance(obj, Map):
            raise KernelError("map_by_fd", Errno.EINVAL, f"fd {fd} is a {type(obj).__name__}")
        return obj

    def _map_calls(self, map_: HashMap) -> NativeCalls | None:
        if self.config.debug or self.config.engine == "interp" or unavailable():
            return None
        return hash_calls(map_)

    def device_by_ifindex(self, ifindex: int) -> NetDevice | None:
        """Return the device with that number in the namespace of the task that asks, or None."""
        return self.current_net.dev_get_by_index(ifindex)

    def bpf_in(self, net: Net) -> Bpf:
        """Return bpf(2) for a task in a network namespace."""
        return cast(Bpf, NamespaceBpf(self, net))

    @property
    def current_netns(self) -> NetNs:
        """The namespace of the task that asks, as programs are attached to it."""
        return self.current_net.hooks[0]

    @property
    def sysctl_values(self) -> MutableMapping[str, int]:
        """The switches below /proc/sys: those of the first network namespace."""
        return self.net.sysctls

    @property
    def proc_net(self) -> Mapping[str, Callable[[], list[str]]]:
        """The files of /proc/net: those of the first network namespace."""
        return proc_net_files(self.net)

    @property
    def nr_cpus(self) -> int:
        """The number of possible CPUs."""
        return len(self.cpus)

    def run_callback(self, prog: Prog, address: int, cpu: Cpu, args: Sequence[int]) -> int:
        """Run a function of a program that nobody called, as timers do."""
        with bpf_net_context(cpu):
            return self._callbacks.run(prog, address, cpu, args)

    def trace_print(self, cpu: Cpu, text: bytes) -> None:
        """Append a line to the trace pipe."""
        if "sched" not in self.__dict__:
            self.trace_pipe.print(cpu, text)
            return
        task = self.sched.current(cpu)
        self.trace_pipe.print(cpu, text, task.comm, task.pid, in_task=self.sched.is_running(task))

    def verify(self, attr: LoadAttr) -> Verified:
        """Run the verifier; VerifierError when it refuses."""
        return verify(attr, self)

    def compile(self, prog: Prog) -> Callable[[int, Cpu], int]:
        """Return what runs a verified program."""
        return compile_for(prog, self)


@cache
def _all_helpers() -> Mapping[int, Helper]:
    merged: dict[int, Helper] = {}
    families = (
        *(
            csum,
            dynptr,
            loop,
            map_helpers,
            misc,
            objects,
            perf,
            probe,
            ringbuf_helpers,
            seq,
            btf_show,
            storage,
            time,
            timer,
            trace,
        ),
        *(trampoline, user),
    )
    tasks = (TRACING_HELPERS, TASK_HELPERS, cgroup_sysctl.HELPERS, more.HELPERS, object_storage.HELPERS, stacks.HELPERS)
    rooms = (*tasks, perf_event.HELPERS, NET_HELPERS)
    for table in (*(family.HELPERS for family in families), *rooms):
        for number, helper in table.items():
            if number in merged:
                raise InternalError(f"helper {number} is implemented twice")
            merged[number] = helper
    missing = {number: _not_modelled(name) for number, name in HELPER_NAMES.items() if number not in merged}
    return {**merged, **missing}


def _not_modelled(name: str) -> Helper:
    # a program that has a call of it may load, and run as long as it does not get there
    def helper(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
        raise NotModelled(f"helper {name}, which program '{run.prog.name}' calls", "include/uapi/linux/bpf.h")

    return helper
