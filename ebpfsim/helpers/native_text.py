"""Helpers that machine code may serve itself: eBPF assembly beside the function in Python that it stands for.

``ebpfsim.jit.routine`` says how such a text is written. It does what the function does, or asks for the function before
it has changed anything. Programs that are not verified, and debug mode, always call the function.

Where the text depends on the kernel, the program, or the map that is the first argument, a function makes it, or
returns None where there is none. Results of such a text are any number but ``ASK_INSTEAD`` (``ebpfsim.jit.routine``).
"""

from collections.abc import Callable

from ebpfsim.maps.map import Map
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Runtime

__all__ = ["MakeText", "native_text", "text_of"]

MakeText = Callable[[Runtime, Prog, Map | None], str | None]
_TEXTS: dict[Helper, str | MakeText] = {}


def native_text(text: str | MakeText) -> Callable[[Helper], Helper]:
    """Say what machine code may do in place of a helper."""

    def note(helper: Helper) -> Helper:
        _TEXTS[helper] = text
        return helper

    return note


def text_of(helper: Helper) -> str | MakeText | None:
    """Return the text that stands for a helper, or what makes it, or None."""
    return _TEXTS.get(helper)
