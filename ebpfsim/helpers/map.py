"""Helpers on maps: elements, queues, iteration, spin locks (kernel/bpf/helpers.c, v6.18)."""

from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import u32
from ebpfsim.maps.bloom_filter import BloomFilterMap
from ebpfsim.maps.queue import QueueMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]

# struct bpf_spin_lock: the kernel's is a qspinlock, which holds 1 while it is taken
UNLOCKED, LOCKED = 0, 1


def map_lookup_elem(run: Run, map_address: int, key: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of a value, or 0."""
    map_ = run.kernel.map_at(map_address)
    return map_.lookup_elem(run.mem.read(key, map_.key_size), run.cpu.number)


def map_update_elem(run: Run, map_address: int, key: int, value: int, flags: int, _r5: int) -> int:
    """Set a value."""
    map_ = run.kernel.map_at(map_address)
    mem = run.mem
    return map_.update_elem(mem.read(key, map_.key_size), mem.read(value, map_.value_size), flags, run.cpu.number)


def map_delete_elem(run: Run, map_address: int, key: int, _r3: int, _r4: int, _r5: int) -> int:
    """Remove a key."""
    map_ = run.kernel.map_at(map_address)
    return map_.delete_elem(run.mem.read(key, map_.key_size))


def map_lookup_percpu_elem(run: Run, map_address: int, key: int, cpu: int, _r4: int, _r5: int) -> int:
    """Return the address of a CPU's value, or 0 when there is no such key or CPU."""
    map_ = run.kernel.map_at(map_address)
    return map_.lookup_percpu_elem(run.mem.read(key, map_.key_size), u32(cpu))


def map_push_elem(run: Run, map_address: int, value: int, flags: int, _r4: int, _r5: int) -> int:
    """Add a value to a queue, stack or bloom filter."""
    map_ = cast(QueueMap, run.kernel.map_at(map_address))
    return map_.push_elem(run.mem.read(value, map_.value_size), flags)


def map_pop_elem(run: Run, map_address: int, value: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take the next value out of a queue or stack; ENOENT and zeroes when there is none."""
    return _next_value(run, map_address, value, remove=True)


def map_peek_elem(run: Run, map_address: int, value: int, _r3: int, _r4: int, _r5: int) -> int:
    """Read the next value of a queue or stack; ENOENT and zeroes when there is none. Bloom filters look for a value."""
    map_ = run.kernel.map_at(map_address)
    if isinstance(map_, BloomFilterMap):
        return 0 if map_.holds(run.mem.read(value, map_.value_size)) else -Errno.ENOENT
    return _next_value(run, map_address, value, remove=False)


def _next_value(run: Run, map_address: int, address: int, *, remove: bool) -> int:
    map_ = cast(QueueMap, run.kernel.map_at(map_address))
    value = map_.peek_elem(remove=remove)
    run.mem.write(address, value if value is not None else bytes(map_.value_size))
    return 0 if value is not None else -Errno.ENOENT


def for_each_map_elem(run: Run, map_address: int, callback: int, callback_ctx: int, flags: int, _r5: int) -> int:
    """Call ``callback(map, key, value, ctx)`` until it returns other than 0; return how many elements it saw."""
    if flags:
        return -Errno.EINVAL
    map_ = run.kernel.map_at(map_address)
    count = 0
    own_key = 0
    try:
        for key, key_address, value_address in map_.elements(run.cpu.number):
            if not key_address:
                # the index of an array lies on the kernel's stack
                own_key = own_key or run.mem.alloc(len(key))
                run.mem.write(own_key, key)
            count += 1
            if run.call(callback, map_address, key_address or own_key, value_address, callback_ctx):
                break
    finally:
        if own_key:
            run.mem.free(own_key)
    return count


def spin_lock(run: Run, lock: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take a lock; nobody else can hold it, because nothing else runs in between."""
    if run.mem.load(lock, 4) != UNLOCKED:
        raise KernelOops("deadlock on a bpf_spin_lock", run.prog.name, address=lock)
    run.mem.store(lock, 4, LOCKED)
    return 0


def spin_unlock(run: Run, lock: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Give a lock back."""
    run.mem.store(lock, 4, UNLOCKED)
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_map_lookup_elem"]: map_lookup_elem,
    HELPER_IDS["bpf_map_update_elem"]: map_update_elem,
    HELPER_IDS["bpf_map_delete_elem"]: map_delete_elem,
    HELPER_IDS["bpf_map_push_elem"]: map_push_elem,
    HELPER_IDS["bpf_map_pop_elem"]: map_pop_elem,
    HELPER_IDS["bpf_map_peek_elem"]: map_peek_elem,
    HELPER_IDS["bpf_map_lookup_percpu_elem"]: map_lookup_percpu_elem,
    HELPER_IDS["bpf_for_each_map_elem"]: for_each_map_elem,
    HELPER_IDS["bpf_spin_lock"]: spin_lock,
    HELPER_IDS["bpf_spin_unlock"]: spin_unlock,
}
