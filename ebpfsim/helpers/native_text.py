"""Helpers that machine code may serve itself: eBPF assembly beside the function in Python that it stands for.

``ebpfsim.jit.routine`` says how such a text is written. It does what the function does, or asks for the function before
it has changed anything. Programs that are not verified, and debug mode, always call the function.
"""

from collections.abc import Callable

from ebpfsim.progs.runtime import Helper

__all__ = ["native_text", "text_of"]

_TEXTS: dict[Helper, str] = {}


def native_text(text: str) -> Callable[[Helper], Helper]:
    """Say what machine code may do in place of a helper."""

    def note(helper: Helper) -> Helper:
        _TEXTS[helper] = text
        return helper

    return note


def text_of(helper: Helper) -> str | None:
    """Return the text that stands for a helper, or None."""
    return _TEXTS.get(helper)
