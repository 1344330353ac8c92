"""Kernel functions that programs call about names of AF_UNIX sockets (net/core/filter.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32, u64
from ebpfsim.progs.runtime import Helper, Run
from netstack.cgroup_bpf import SOCK_ADDR_LEN, UNIX_PATH_MAX

__all__ = ["KFUNCS"]

# struct bpf_sock_addr_kern: sk, uaddr; struct sock
UADDR, SKC_FAMILY, AF_UNIX = 8, 16, 1
_SUN_PATH = 2


def bpf_sock_addr_set_sun_path(run: Run, sa_kern: int, sun_path: int, size: int, _r4: int, _r5: int) -> int:
    """Let the address be another name: EINVAL for sockets of other families and names that are too long."""
    mem, size = run.mem, u32(size)
    if mem.load(mem.load(sa_kern, 8) + SKC_FAMILY, 2) != AF_UNIX or not 0 < size <= UNIX_PATH_MAX:
        return u64(-Errno.EINVAL)
    mem.write(mem.load(sa_kern + UADDR, 8) + _SUN_PATH, bytes(mem.read(sun_path, size)))
    mem.store(sa_kern + SOCK_ADDR_LEN, 4, _SUN_PATH + size)
    return 0


KFUNCS: dict[str, Helper] = {"bpf_sock_addr_set_sun_path": bpf_sock_addr_set_sun_path}
