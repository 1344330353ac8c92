"""What users may call is stored as text, in ``public_api.txt``: a difference is a decision, and goes into CHANGELOG.md.

After a decision: ``python tests/test_public_api.py > tests/public_api.txt``.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

STORED = Path(__file__).resolve().parent / "public_api.txt"


def public_api() -> Iterator[str]:
    """The names that ``ebpfsim`` exports; the members of its classes with their signatures."""
    import ebpfsim

    for name in sorted(ebpfsim.__all__):
        thing = getattr(ebpfsim, name)
        if inspect.isclass(thing):
            yield f"{name}{signature(thing)}" if not issubclass(thing, BaseException) else f"{name}: an exception"
            yield from members(name, thing)
        elif callable(thing):
            yield f"{name}{signature(thing)}"
        else:
            yield f"{name}: {type(thing).__name__}"


def members(name: str, cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        if base.__module__.split(".")[0] != "ebpfsim":
            continue
        for member, value in sorted(vars(base).items()):
            if member.startswith("_"):
                continue
            if isinstance(value, property):
                yield f"{name}.{member}: property"
            elif inspect.isfunction(value):
                yield f"{name}.{member}{signature(value)}"


def signature(thing: object) -> str:
    # parameters without their types: names, kinds and defaults are what a caller depends on
    found = inspect.signature(thing)  # type: ignore[arg-type]
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values() if p.name != "self"]
    return str(inspect.Signature(plain))


def test_public_names_are_the_stored_ones() -> None:
    assert list(public_api()) == STORED.read_text().splitlines()


def test_every_public_name_is_there() -> None:
    import ebpfsim

    assert set(ebpfsim.__all__) <= set(dir(ebpfsim))
    assert len(ebpfsim.__all__) == len(set(ebpfsim.__all__))


def test_live_kernel_has_the_interface_of_the_simulated_one() -> None:
    from ebpfsim.live import Bpf as LiveBpf
    from ebpfsim.syscall import Bpf

    simulated = {name: signature(value) for name, value in vars(Bpf).items() if not name.startswith("_")}
    live = {name: signature(getattr(LiveBpf, name)) for name in simulated if hasattr(LiveBpf, name)}
    assert live == simulated


if __name__ == "__main__":
    print(*public_api(), sep="\n")
