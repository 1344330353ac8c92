"""What is put in front of calls on objects (fixup_kfunc_call(), v6.18); tests/objects (trees) shows it is right."""

from types import SimpleNamespace

import pytest

from ebpfsim.errors import NotModelled
from ebpfsim.isa.insn import Insn
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.fixup_kfunc import object_arguments

BTF = object()
CALL, MOV = 0x85, 0xB7


def env(name: str, btf: object = BTF, node_off: int = 16) -> SimpleNamespace:
    """Return what the pass looks at: one call at slot 5 of the program as it was."""
    return SimpleNamespace(
        attr=SimpleNamespace(btf=BTF),
        kfuncs={77: SimpleNamespace(name=name)},
        kfunc_objects={5: (BtfId(btf, 3), node_off)},
    )


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("bpf_obj_drop_impl", [(2, 3)]),
        ("bpf_refcount_acquire_impl", [(2, 3)]),
        ("bpf_list_push_front_impl", [(3, 3), (4, 16)]),
        ("bpf_rbtree_add_impl", [(4, 3), (5, 16)]),
    ],
)
def test_type_and_place_of_the_node_follow_the_arguments(name, given) -> None:
    call = Insn(CALL, 0, 2, 0, 77)
    found = object_arguments(env(name), [Insn(MOV), call], [4, 5])
    assert found == {1: [*(Insn(MOV, reg, 0, 0, imm) for reg, imm in given), call]}


def test_functions_that_make_objects_have_the_type_already() -> None:
    assert object_arguments(env("bpf_obj_new_impl"), [Insn(CALL, 0, 2, 0, 77)], [5]) == {}


def test_objects_of_another_btf_are_not_modelled() -> None:
    with pytest.raises(NotModelled, match="another BTF"):
        object_arguments(env("bpf_obj_drop_impl", btf=object()), [Insn(CALL, 0, 2, 0, 77)], [5])
