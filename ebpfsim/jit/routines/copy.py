"""Copies, comparisons and zeroes of a known size as eBPF assembly; large ones are loops in functions of their own."""

__all__ = ["compare_function", "compare_text", "copy_function", "copy_text", "pieces", "zero_function", "zero_text"]

MAX_INLINE_BYTES = 64


def pieces(size: int) -> list[tuple[int, int]]:
    """Return (offset, bits) of the loads that cover ``size`` bytes; the last one may overlap the one before."""
    width = next(width for width in (8, 4, 2, 1) if width <= size)
    found = [(off, 8 * width) for off in range(0, size - width + 1, width)]
    if size % width:
        found.append((size - width, 8 * width))
    return found


def copy_text(function: str, size: int, to: tuple[str, int], source: str, temp: str) -> str:
    """Return what copies ``size`` bytes to a register plus offset, by calling ``function`` if they are many."""
    if size > MAX_INLINE_BYTES:
        return f"call {function}"
    return "\n".join(_move(off, bits, to, source, temp) for off, bits in pieces(size))


def copy_function(function: str, size: int, to: tuple[str, int], source: str) -> str:
    """Return the function that ``copy_text`` calls, if any; no register changes."""
    if size <= MAX_INLINE_BYTES:
        return ""
    whole, rest = size & -8, size & 7
    lines = [
        f"{function}: r8 = {source}; r5 = {to[0]}; r4 = r8; r4 += {whole}",
        f"{function}_more: r7 = *(u64 *)(r8 + 0); *(u64 *)(r5 + {to[1]}) = r7; r8 += 8; r5 += 8",
        f"if r8 != r4 goto {function}_more",
        _move(rest - 8, 64, ("r5", to[1]), "r8", "r7") if rest else "",
        "exit",
    ]
    return "\n".join(lines)


def _move(off: int, bits: int, to: tuple[str, int], source: str, temp: str) -> str:
    return f"{temp} = *(u{bits} *)({source} + {off}); *(u{bits} *)({to[0]} + {to[1] + off}) = {temp}"


def compare_text(
    function: str, size: int, one: tuple[str, int], other: str, unequal: str, temps: tuple[str, str]
) -> str:
    """Return what goes to ``unequal`` unless two ranges are equal, by calling ``function`` if they are long."""
    if size > MAX_INLINE_BYTES:
        return f"call {function}\nif r0 == 0 goto {unequal}"
    return "\n".join(_unlike(off, bits, one, other, unequal, temps) for off, bits in pieces(size))


def compare_function(function: str, size: int, one: tuple[str, int], other: str) -> str:
    """Return the function that ``compare_text`` calls, if any; it tells in R0 whether two ranges are equal."""
    if size <= MAX_INLINE_BYTES:
        return ""
    whole, rest = size & -8, size & 7
    unequal, temps, moving = f"{function}_not", ("r0", "r7"), ("r4", one[1])
    lines = [
        f"{function}: r3 = {other}; r4 = {one[0]}; r5 = r3; r5 += {whole}",
        f"{function}_more: {_unlike(0, 64, moving, 'r3', unequal, temps)}; r3 += 8; r4 += 8",
        f"if r3 != r5 goto {function}_more",
        _unlike(rest - 8, 64, moving, "r3", unequal, temps) if rest else "",
        f"r0 = 1; exit; {unequal}: r0 = 0; exit",
    ]
    return "\n".join(lines)


def _unlike(off: int, bits: int, one: tuple[str, int], other: str, unequal: str, temps: tuple[str, str]) -> str:
    a, b = temps
    load = f"{a} = *(u{bits} *)({one[0]} + {one[1] + off}); {b} = *(u{bits} *)({other} + {off})"
    return f"{load}; if {a} != {b} goto {unequal}"


def zero_text(function: str, size: int, at: tuple[str, int]) -> str:
    """Return what clears ``size`` bytes, by calling ``function`` if they are many."""
    if size > MAX_INLINE_BYTES:
        return f"call {function}"
    return "\n".join(_clear(off, bits, at) for off, bits in pieces(size))


def zero_function(function: str, size: int, at: tuple[str, int]) -> str:
    """Return the function that ``zero_text`` calls, if any; no register changes."""
    if size <= MAX_INLINE_BYTES:
        return ""
    whole, rest = size & -8, size & 7
    lines = [
        f"{function}: r5 = {at[0]}; r4 = r5; r4 += {whole}",
        f"{function}_more: *(u64 *)(r5 + {at[1]}) = 0; r5 += 8; if r5 != r4 goto {function}_more",
        _clear(rest - 8, 64, ("r5", at[1])) if rest else "",
        "exit",
    ]
    return "\n".join(lines)


def _clear(off: int, bits: int, at: tuple[str, int]) -> str:
    return f"*(u{bits} *)({at[0]} + {at[1] + off}) = 0"
