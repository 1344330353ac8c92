"""From one run of the verifier, what the last rewrites ask for (``struct bpf_insn_aux_data``)."""

from ebpfsim.btf.types import Struct
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.misc_fixups import Facts, Loop, Object
from ebpfsim.verifier.record import object_record

__all__ = ["facts_of"]


def facts_of(env: Env) -> Facts:
    """Return the facts; they do not hold on to states."""
    return Facts(
        ProgType(env.attr.prog_type),
        env.attr.expected_attach_type,
        env.sleepable,
        env.info.direct_packet != "write",
        env.kfuncs,
        env.map_ptr_state,
        {idx: Loop(env.subprogs[number].start) for idx, (fits, number) in env.loop_inline.items() if fits},
        {idx: _object(type_, off) for idx, (type_, off) in env.kfunc_objects.items()},
        frozenset(env.percpu_calls),
        frozenset(env.atomic_storage),
        frozenset(
            idx for idx, key in env.map_key_state.items() if key is not None and len(env.map_ptr_state[idx]) == 1
        ),
        env.seen_exception,
        frozenset(env.nospec),
        frozenset(env.nospec_result),
        env.alu_sanitation,
    )


def _object(type_: BtfId, off: int) -> Object:
    struct = type_.btf.type(type_.id)
    size = struct.size if isinstance(struct, Struct) else 0
    return Object(size, bool(object_record(type_.btf, type_.id)), off)
