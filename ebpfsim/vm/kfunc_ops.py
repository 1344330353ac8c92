"""The closure that ends a block with a call of a kernel function, which both engines use."""

from ebpfsim.errors import NotModelled
from ebpfsim.helpers.kfunc_table import KFUNC_HELPERS
from ebpfsim.progs.runtime import Runtime
from ebpfsim.verifier.kfunc import load_kfunc
from ebpfsim.vm.call_ops import python_call
from ebpfsim.vm.mem_ops import Place
from ebpfsim.vm.state import Block, Terminator

__all__ = ["kfunc_call"]


def kfunc_call(btf_id: int, kernel: Runtime, place: Place, following: Block) -> Terminator:
    """R0 = kernel function (R1..R5); what a helper without a row of its own costs, unless it has one."""
    kfunc = load_kfunc(btf_id)
    name = kfunc.name if kfunc is not None else f"with BTF id {btf_id}"
    helper = KFUNC_HELPERS.get(name)
    if helper is None:
        raise NotModelled(f"kernel function {name}", "kernel/bpf/helpers.c")
    key = f"helper.{name}"
    cost_ps = kernel.costs.ps(key if key in kernel.costs.costs else "helper")
    return python_call(helper, cost_ps, place, following)
