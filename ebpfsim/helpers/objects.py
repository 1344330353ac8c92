"""Objects that programs allocate, and pointers to them in map values (kernel/bpf/helpers.c, v6.18).

The verifier puts what a call needs to know of the object's type into arguments that programs leave alone, as Linux does
with ``struct btf_struct_meta``: here it is the type's id in the BTF of the program.
"""

from functools import lru_cache

from ebpfsim.btf.btf import Btf
from ebpfsim.errors import InternalError
from ebpfsim.isa.alu import M64, u32
from ebpfsim.maps.fields import ObjectType, drop_object, init_object
from ebpfsim.maps.fields import object_type as read_type
from ebpfsim.maps.map import round_up8
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "KFUNCS", "object_type"]

# in front of an object with a copy for each CPU: the distance of the copies
PERCPU_HEADER_BYTES = 8

_read_type = lru_cache(maxsize=256)(read_type)


def object_type(run: Run, type_id: int) -> ObjectType:
    """Return a type of the program by its id."""
    btf = getattr(run.prog.btf_fd_obj, "btf", None)
    if not isinstance(btf, Btf):
        raise InternalError(f"program '{run.prog.name}' has objects and no BTF")
    return _read_type(btf, u32(type_id))


def bpf_obj_new(run: Run, type_id: int, _meta: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a new object, all zeroes but for its special fields."""
    type_ = object_type(run, type_id)
    address = run.mem.alloc(max(type_.size, 1), what="an object of bpf_obj_new()")
    init_object(run.mem, address, type_.record)
    return address


def bpf_obj_drop(run: Run, address: int, type_id: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop a reference on an object."""
    drop_object(run.mem, address, object_type(run, type_id))
    return 0


def bpf_refcount_acquire(run: Run, address: int, type_id: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take another reference on an object: its address, or 0 when it is being freed."""
    at = address + object_type(run, type_id).refcount_off
    count = run.mem.load(at, 4)
    if not count:
        return 0
    run.mem.store(at, 4, count + 1)
    return address


def bpf_percpu_obj_new(run: Run, type_id: int, _meta: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a new object with a copy for each CPU; that of CPU 0 lies at its address."""
    stride = round_up8(object_type(run, type_id).size)
    size = PERCPU_HEADER_BYTES + stride * len(run.kernel.cpus)
    block = run.mem.alloc(size, what="an object of bpf_percpu_obj_new()")
    run.mem.store(block, 8, stride)
    return block + PERCPU_HEADER_BYTES


def bpf_percpu_obj_drop(run: Run, address: int, _meta: int, _r3: int, _r4: int, _r5: int) -> int:
    """Free an object with copies."""
    run.mem.free_rcu(address - PERCPU_HEADER_BYTES)
    return 0


def bpf_per_cpu_ptr(run: Run, address: int, cpu: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of a CPU's copy, or 0 when there is no such CPU."""
    if u32(cpu) >= len(run.kernel.cpus):
        return 0
    return address + u32(cpu) * run.mem.load(address - PERCPU_HEADER_BYTES, 8)


def bpf_this_cpu_ptr(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the copy of the CPU that runs."""
    return bpf_per_cpu_ptr(run, address, run.cpu.number, 0, 0, 0)


def bpf_kptr_xchg(run: Run, place: int, pointer: int, _r3: int, _r4: int, _r5: int) -> int:
    """Put a pointer into a map value or object and return what was there."""
    old = run.mem.load(place, 8)
    run.mem.store(place, 8, pointer)
    return old


def bpf_cast(_run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address: only the verifier sees it as something else from now on."""
    return address & M64


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_kptr_xchg"]: bpf_kptr_xchg,
    HELPER_IDS["bpf_per_cpu_ptr"]: bpf_per_cpu_ptr,
    HELPER_IDS["bpf_this_cpu_ptr"]: bpf_this_cpu_ptr,
}

KFUNCS: dict[str, Helper] = {
    "bpf_obj_new_impl": bpf_obj_new,
    "bpf_obj_drop_impl": bpf_obj_drop,
    "bpf_refcount_acquire_impl": bpf_refcount_acquire,
    "bpf_percpu_obj_new_impl": bpf_percpu_obj_new,
    "bpf_percpu_obj_drop_impl": bpf_percpu_obj_drop,
    "bpf_cast_to_kern_ctx": bpf_cast,
    "bpf_rdonly_cast": bpf_cast,
}
