"""How a function is called: sizes of arguments and result (``struct btf_func_model``, btf_distill_func_proto(), v6.18).

A *word* is what a trampoline keeps of an argument in the context of programs: 8 bytes as the calling convention of
x86-64 passes them. A structure passed by value has as many words as it needs. Of a register that holds less than 8
bytes the rest is zero, as compilers leave it; Linux promises nothing about it.
"""

from dataclasses import dataclass
from functools import lru_cache

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Composite, Enum, FuncProto, Int, Ptr, Type

__all__ = ["FuncModel", "func_model"]

MAX_BPF_FUNC_REG_ARGS = 5
M32, M64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class FuncModel:
    """Sizes in bytes; ``signed`` and ``structs`` say which arguments are signed, and which are structures.

    ``ret_size`` is 0 for a function that returns nothing.
    """

    arg_sizes: tuple[int, ...]
    signed: tuple[bool, ...] = ()
    structs: tuple[bool, ...] = ()
    ret_size: int = 8
    ret_signed: bool = False

    @property
    def nr_words(self) -> int:
        """How many words the arguments take (``nr_regs`` of arch_prepare_bpf_trampoline)."""
        return sum((size + 7) // 8 for size in self.arg_sizes)

    def words(self, args: tuple[int, ...]) -> tuple[int, ...]:
        """Return the words of arguments, which are given word by word."""
        return tuple(value & mask for value, mask in zip(args, self.masks(), strict=True))

    def masks(self) -> tuple[int, ...]:
        """Return the bits of each word that are an argument's."""
        masks: list[int] = []
        for number, size in enumerate(self.arg_sizes):
            if size > 8 or (self.structs and self.structs[number]):
                masks += [M64] * ((size + 7) // 8)
            elif self.signed and self.signed[number] and size < 8:
                masks.append(M32)
            else:
                masks.append((1 << 8 * size) - 1)
        return tuple(masks)

    def ret_word(self, value: int | None) -> int:
        """Return a result as the word that programs see."""
        if not self.ret_size or value is None:
            return 0
        if self.ret_size < 8:
            return value & (M32 if self.ret_signed else (1 << 8 * self.ret_size) - 1)
        return value & M64

    def result(self, word: int) -> int:
        """Return a word as the number that the function's caller gets, with the sign of its type."""
        bits = 8 * self.ret_size
        if not bits:
            return 0
        value = word & ((1 << bits) - 1)
        return value - (1 << bits) if self.ret_signed and value >> (bits - 1) else value


def _size(type_: Type) -> int:
    if isinstance(type_, Ptr):
        return 8
    return type_.size if isinstance(type_, Int | Enum | Composite) else 0


def _is_signed(type_: Type) -> bool:
    return isinstance(type_, Int | Enum) and type_.signed


@lru_cache(maxsize=1024)
def func_model(btf: Btf, proto: FuncProto | None) -> FuncModel:
    """Return how functions of a prototype are called; without one they have five numbers and return one."""
    if proto is None:
        return FuncModel((8,) * MAX_BPF_FUNC_REG_ARGS)
    args = [btf.resolved(param.type_id) for param in proto.params]
    result = btf.resolved(proto.type_id)
    return FuncModel(
        tuple(_size(type_) for type_ in args),
        tuple(_is_signed(type_) for type_ in args),
        tuple(isinstance(type_, Composite) for type_ in args),
        _size(result),
        _is_signed(result),
    )
