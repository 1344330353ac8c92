"""Disciplines from what users write: ``tc qdisc add dev DEVICE root KIND OPTIONS`` as a dictionary."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ebpfsim.clock import parse_duration, parse_rate
from ebpfsim.errors import InputError
from netstack.qdisc import Fifo, Netem, PfifoFast, Prio, Qdisc, Tbf
from netstack.qdisc_fair import Fq, Htb, HtbClass

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["KINDS", "add_qdisc", "make_qdisc"]

Make = Callable[..., Qdisc]


def _classes(options: Mapping[Any, Mapping[str, Any]]) -> dict[int, HtbClass]:
    made = {}
    for minor, fields in options.items():
        known = {key: value for key, value in fields.items() if key in ("prio", "parent", "limit", "burst")}
        unknown = set(fields) - {*known, "rate", "ceil"}
        if unknown or "rate" not in fields:
            raise InputError("", f"htb class {minor}: {sorted(unknown) or 'no rate'}", "rate, ceil, prio, parent, ...")
        ceil = parse_rate(fields["ceil"]) if "ceil" in fields else 0
        made[int(minor)] = HtbClass(parse_rate(fields["rate"]), ceil, **known)
    return made


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    found = get_close_matches(word, known, 1)
    return f"; did you mean '{found[0]}'?" if found else ""


def _share(value: Any) -> float:
    text = str(value)
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


# by kind: what makes it, and its options: the name of the argument and how its text is read
KINDS: Mapping[str, tuple[Make, Mapping[str, tuple[str, Callable[[Any], Any]]]]] = {
    "pfifo": (Fifo, {"limit": ("limit", int)}),
    "bfifo": (lambda dev, **options: Fifo(dev, in_bytes=True, **options), {"limit": ("limit", int)}),
    "pfifo_fast": (PfifoFast, {}),
    "prio": (Prio, {"bands": ("bands", int), "priomap": ("priomap", tuple)}),
    "tbf": (Tbf, {"rate": ("rate_bps", parse_rate), "burst": ("burst", int), "limit": ("limit", int)}),
    "netem": (
        Netem,
        {
            "delay": ("delay_ns", parse_duration),
            "jitter": ("jitter_ns", parse_duration),
            "loss": ("loss", _share),
            "duplicate": ("duplicate", _share),
            "reorder": ("reorder", _share),
            "gap": ("gap", int),
            "rate": ("rate_bps", parse_rate),
            "limit": ("limit", int),
        },
    ),
    "fq": (Fq, {"limit": ("limit", int), "flow_limit": ("flow_limit", int), "quantum": ("quantum", int)}),
    "htb": (Htb, {"default": ("default", int), "classes": ("classes", _classes)}),
}


def make_qdisc(dev: "NetDevice", kind: str, options: Mapping[str, Any]) -> Qdisc:
    """Return a discipline of a kind; InputError for a kind or option that there is not."""
    if kind not in KINDS:
        raise InputError("", f"qdisc '{kind}' is not modelled{_did_you_mean(kind, KINDS)}", ", ".join(KINDS))
    make, known = KINDS[kind]
    arguments = {}
    for name, value in options.items():
        if name not in known:
            raise InputError("", f"qdisc {kind} has no option '{name}'{_did_you_mean(name, known)}", ", ".join(known))
        argument, read = known[name]
        try:
            arguments[argument] = read(value)
        except (TypeError, ValueError):
            raise InputError("", f"qdisc {kind}: {name} {value!r} is not understood") from None
    try:
        return make(dev, **arguments)
    except TypeError:
        raise InputError("", f"qdisc {kind} on '{dev.full_name}': an option is missing", ", ".join(known)) from None


def add_qdisc(dev: "NetDevice", kind: str, **options: Any) -> Qdisc:
    """Give a device a root discipline, in place of another one (``tc qdisc replace``)."""
    dev.root_qdisc = made = make_qdisc(dev, kind, options)
    return made
