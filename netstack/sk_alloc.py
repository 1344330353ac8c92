"""``struct sock`` of tasks' sockets: made, put behind their ``struct socket``, freed (net/core/sock.c, v6.18)."""

from collections.abc import Callable
from typing import Any

from ebpfsim.cpu import Cpu
from hooks.cgroup import Cgroup
from netstack.sockfs import SocketKernel
from netstack.tcp_sock import TcpSock
from tracing.fs import task_of
from tracing.functions import kernel_function

__all__ = ["SOCK_MAKERS", "SockMaker"]

# (kernel, cgroup) -> what is behind a socket of a protocol; the modules of families add theirs
SockMaker = Callable[[SocketKernel, Cgroup], Any]
SOCK_MAKERS: dict[str, SockMaker] = {}


@kernel_function
def sk_alloc(k: SocketKernel, cpu: Cpu, _net: int, family: int, priority: int, prot: int, _kern: int) -> int:
    """Return a new ``struct sock``; 0 when the security modules refuse it."""
    functions = k.functions
    address: int = functions.sk_prot_alloc(cpu, prot, priority, family)
    if address:
        functions.__init_waitqueue_head(cpu, 0, 0, 0)
        functions.cgroup_sk_alloc(cpu, 0)
    return address


@kernel_function
def sk_prot_alloc(k: SocketKernel, cpu: Cpu, prot: int, priority: int, family: int) -> int:
    """Return the memory of a ``struct sock``; 0 when the security modules refuse it."""
    group = task_of(k, cpu).cgroup or k.cgroups.root
    sk = SOCK_MAKERS[k.sockfs.proto_name(prot)](k, group)
    address: int = sk.struct_address
    if k.functions.security_sk_alloc(cpu, address, family, priority):
        sk.destruct()
        return 0
    k.sockfs.born[address] = sk, k.sockfs.proto_name(prot)
    return address


@kernel_function
def sock_init_data(k: SocketKernel, cpu: Cpu, sock: int, sk: int) -> None:
    """Bring a socket and its ``struct sock`` together."""
    k.functions.sock_init_data_uid(cpu, sock, sk, task_of(k, cpu).cred.fsuid)


@kernel_function
def sock_init_data_uid(k: SocketKernel, cpu: Cpu, sock: int, sk: int, uid: int) -> None:
    """Bring a socket and its ``struct sock`` together."""
    functions = k.functions
    made, prot = k.sockfs.born.pop(sk)
    if sock:
        k.sockfs.graft(k.sockfs.at(sock), made, uid, prot)
    else:
        k.sockfs.orphan(made, uid, prot)
    if isinstance(made, TcpSock):
        return
    made.data_ready = lambda cpu: functions.sock_def_readable(cpu, sk)
    made.error_report = lambda cpu: functions.sock_def_error_report(cpu, sk)


@kernel_function
def sk_free(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """The last reference of a ``struct sock`` has gone."""
    k.functions.__sk_free(cpu, sk)


@kernel_function
def __sk_free(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """The last reference of a ``struct sock`` has gone."""
    k.functions.sk_destruct(cpu, sk)


@kernel_function
def sk_destruct(k: SocketKernel, cpu: Cpu, sk: int) -> None:
    """Free a ``struct sock``, once nobody can look at it any more where its protocol has SOCK_RCU_FREE."""
    made = k.sockfs.forget_sk(sk)
    if getattr(made, "rcu_free", False):
        k.net.clock.call_in(0, lambda: destruct(k, cpu, sk, made))
    else:
        destruct(k, cpu, sk, made)


def destruct(k: SocketKernel, cpu: Cpu, sk: int, made: Any) -> None:
    """Give back what a ``struct sock`` has."""
    k.walks[sk] = made
    k.functions.__sk_destruct(cpu, sk)
    del k.walks[sk]


@kernel_function
def __sk_destruct(k: SocketKernel, cpu: Cpu, head: int) -> None:
    """Give back what a ``struct sock`` has."""
    functions, made = k.functions, k.walks[head]
    if made.destructor:
        getattr(functions, made.destructor)(cpu, head)
    functions.bpf_sk_storage_free(cpu, head)
    functions.put_pid(cpu, 0)
    functions.cgroup_sk_free(cpu, 0)
    functions.security_sk_free(cpu, head)
    made.destruct()
