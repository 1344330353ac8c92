"""What users may call is stored as text, in ``public_api.txt``: a difference is a decision, and goes into CHANGELOG.md.

After a decision: ``python tests/test_public_api.py > tests/public_api.txt``.
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

# what users get into their hands without naming its class
FACES = ["ebpfsim.loader:Program", "ebpfsim.loader:ObjectMap", "ebpfsim.syscall:Bpf", "hooks.xdp:XdpLink"]
PACKAGES = ("ebpfsim", "hooks", "netstack", "tracing")
# how the simulated bpf(2) is looked into by the rest of its kernel; a live kernel has nothing to show
INSIDE = {"device_by_ifindex", "map_by_fd", "prog_by_fd", "stats_enabled"}
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
    for face in FACES:
        module, _, name = face.partition(":")
        yield from members(name, getattr(importlib.import_module(module), name))


def members(name: str, cls: type) -> Iterator[str]:
    for member, value in functions(cls).items():
        yield f"{name}.{member}: property" if is_property(value) else f"{name}.{member}{signature(value)}"


def functions(cls: type) -> dict[str, object]:
    """The public methods and properties of a class that are ours, by name."""
    ours = {key: value for base in reversed(cls.__mro__) if is_ours(base) for key, value in vars(base).items()}
    public = {key: value for key, value in ours.items() if not key.startswith("_")}
    return {key: value for key, value in sorted(public.items()) if inspect.isfunction(value) or is_property(value)}


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] in PACKAGES


def is_property(value: object) -> bool:
    return isinstance(value, property)


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

    simulated = {name: signature(value) for name, value in functions(Bpf).items() if name not in INSIDE}
    live = {name: signature(value) for name, value in functions(LiveBpf).items() if name in simulated}
    assert len(simulated) > 30
    assert live == simulated


if __name__ == "__main__":
    print(*public_api(), sep="\n")
