"""``ebpfsim prog``: the programs of an object file, without a scenario."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfsim.cli.errors import exit_code
from ebpfsim.cli.objects import chosen_programs, open_object, read_spec, read_types
from ebpfsim.cli.options import debug_option, engine_option, json_option
from ebpfsim.cli.prog_dump import dump
from ebpfsim.cli.show import prog_show
from ebpfsim.errors import EbpfSimError, InputError, KernelError, KernelOops, NotModelled, VerifierError
from ebpfsim.suggest import did_you_mean

if TYPE_CHECKING:
    from ebpfsim.btf.btf import Btf
    from ebpfsim.elf.spec import ObjectSpec
    from ebpfsim.loader import Object
    from ebpfsim.progs.prog import Prog
    from ebpfsim.simulation import Host
    from ebpfsim.test_run.frames import FrameRuns

__all__ = ["prog"]


@click.group()
def prog() -> None:
    """Verify, dump and run the programs of object files."""


prog.add_command(prog_show)


@prog.command()
@click.argument("obj", metavar="OBJ.o")
@click.argument("progs", nargs=-1, metavar="[PROG]...")
@click.option("--log-level", type=click.IntRange(0, 7), default=0, help="Print the verifier's log: 1, 2 or 4.")
@click.option("--explain/--no-explain", "explained", default=True, help="Say of refused programs what to change.")
@click.option("--kernel-btf", metavar="FILE", help="Types of another kernel, for CO-RE.")
@click.option("--caps", metavar="CAP_BPF,...", help="Load as a task with these capabilities only, '' for none.")
@json_option
def verify(
    obj: str,
    progs: tuple[str, ...],
    log_level: int,
    explained: bool,
    kernel_btf: str | None,
    caps: str | None,
    as_json: bool,
) -> int:
    """Verify programs (all when none is named), one line each; exits with 3 when one is refused."""
    from ebpfsim.verifier.explain import explain

    spec = read_spec(obj)
    core_btf = read_types(kernel_btf) if kernel_btf is not None else None
    names = None if caps is None else [cap.strip() for cap in caps.split(",") if cap.strip()]
    worst = 0
    rows: list[dict[str, Any]] = []
    explanations = {}
    for name in chosen_programs(spec, progs):
        row, error = _verify(spec, name, log_level, core_btf, names)
        rows.append(row)
        worst = max(worst, exit_code(error) if error is not None else 0)
        if explained and isinstance(error, VerifierError) and error.log:
            explanations[name] = explain(error.log)
    if as_json:
        for row in rows:
            found = explanations.get(row["program"])
            row["explanation"] = found.to_json() if found is not None else None
        click.echo(json.dumps(rows, indent=2))
        return worst
    width = max((len(row["program"]) for row in rows), default=0)
    for row in rows:
        effort = (
            f"{row['insns']} insns, {row['verified_insns']} processed" if row["verdict"] == "accept" else row["reason"]
        )
        click.echo(f"{row['program']:<{width}}  {row['verdict']:<12}  {effort}")
        for line in row["log"] if log_level else ():
            click.echo(f"    {line}")
        explanation = explanations.get(row["program"])
        for line in explanation.lines() if explanation is not None else ():
            click.echo(f"    {line}")
    return worst


prog.add_command(dump)


@prog.command()
@click.argument("obj", metavar="OBJ.o")
@click.argument("name", metavar="PROG")
@click.option("--in", "capture", required=True, metavar="F.pcap", help="The packets to run it on (pcap or pcapng).")
@click.option("--out", metavar="F.pcapng", help="Write the packets as the program leaves them.")
@click.option("--repeat", type=click.IntRange(1, 1_000_000), default=1, help="Run it so often on each packet.")
@click.option("--map", "entries", multiple=True, metavar="NAME:KEY=VALUE", help="Set an entry of a map first.")
@click.option("--step", is_flag=True, help="Print every instruction that is executed and the registers it changed.")
@debug_option
@engine_option
@json_option
def run(
    obj: str,
    name: str,
    capture: str,
    out: str | None,
    repeat: int,
    entries: tuple[str, ...],
    step: bool,
    debug: bool,
    engine: str | None,
    as_json: bool,
) -> None:
    """Run a program on the packets of a capture and count what it returns.

    How fast this machine was is told on standard error: it is no result of the simulation.
    """
    spec = read_spec(obj)
    (chosen,) = chosen_programs(spec, [name])
    opened, host = open_object(spec, debug=debug, engine=engine or "auto")
    opened.load()
    for entry in entries:
        _set_entry(opened, entry)
    if step:
        _step(host.prog(opened.programs[chosen]), host, as_json)
    if out is not None:
        runs = _run_and_write(spec, chosen, opened, host, (capture, out), repeat)
    else:
        runs = _run_all(host, host.prog(opened.programs[chosen]), capture, repeat)
    mean_ns = runs.duration_ns / runs.frames if runs.frames else 0.0
    counts = {str(_verdict(spec, chosen, value) or value): count for value, count in sorted(runs.retvals.items())}
    summary = {"program": chosen, "packets": runs.frames, "retvals": counts, "ns_per_packet": round(mean_ns, 1)}
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for word, count in counts.items():
        click.echo(f"{word:<14} {count}")
    click.echo(f"{runs.frames} packets, {mean_ns:.1f} ns a packet by cost profile '{host.kernel.costs.name}'")


def _run_all(host: "Host", prog: "Prog", capture: str, repeat: int) -> "FrameRuns":
    from ebpfsim.test_run.frames import FrameRuns
    from netstack.capture_rows import capture_rows

    runs = FrameRuns(host.kernel, prog, repeat=repeat)
    seconds = 0.0
    with _packet_of(runs, capture):
        for rows in capture_rows(capture):
            started = time.process_time()
            try:
                runs.run(rows)
            finally:
                seconds += time.process_time() - started
    if seconds:
        done = runs.frames * repeat
        click.echo(
            f"this machine: {done} runs in {seconds:.3f} s of CPU time, {done / seconds / 1e6:.2f} M/s", err=True
        )
    return runs


def _run_and_write(
    spec: "ObjectSpec", name: str, opened: "Object", host: "Host", files: tuple[str, str], repeat: int
) -> "FrameRuns":
    from ebpfsim.recorder import PacketRecord
    from ebpfsim.test_run.frames import FrameRuns
    from netstack.pcap import read_capture

    capture, out = files
    frames = read_capture(Path(capture), where=capture)
    runs = FrameRuns(host.kernel, host.prog(opened.programs[name]), repeat=repeat)
    records: list[PacketRecord] = []
    first_ns = frames[0].time_ns if frames else 0
    with _packet_of(runs, capture):
        for frame in frames:
            done = runs.run_one(frame.data)
            verdict = _verdict(spec, name, done.retval)
            records.append(PacketRecord(frame.time_ns - first_ns, "prog", name, "in", done.data_out, verdict=verdict))
    _write(out, name, records)
    return runs


@contextmanager
def _packet_of(runs: "FrameRuns", capture: str) -> Iterator[None]:
    # what a program ends in, and what the kernel refuses, is of one packet
    try:
        yield
    except (KernelError, KernelOops):
        click.echo(f"packet {runs.frames + 1} of {capture}:", err=True)
        raise


def _verify(
    spec: "ObjectSpec", name: str, log_level: int, core_btf: "Btf | None", caps: list[str] | None
) -> tuple[dict[str, Any], EbpfSimError | None]:
    row: dict[str, Any] = {"program": name, "section": spec.programs[name].section, "verdict": "accept", "reason": ""}
    row |= {"insns": 0, "verified_insns": 0, "log": []}
    opened, _ = open_object(spec, core_btf=core_btf, caps=caps)
    program = opened.programs[name]
    program.log_level = log_level
    try:
        opened.load(only=[name])
    except VerifierError as error:
        # what relocation left behind is told in libbpf's words
        notes = [note.splitlines()[-1] for note in getattr(error, "__notes__", ())]
        reason = notes[0] if notes else error.reason
        row |= {"verdict": "reject", "reason": f"{error.errno_name}: {reason}", "log": error.log.splitlines()}
        return row, error
    except NotModelled as error:
        row |= {"verdict": "not modelled", "reason": error.feature}
        return row, error
    except EbpfSimError as error:
        row |= {"verdict": "reject", "reason": str(error)}
        return row, error
    row |= {"insns": len(program.insns) // 8, "verified_insns": program.verified_insns}
    row["log"] = program.log.splitlines()
    return row, None


# from here on each run of the program is one in single steps, which says what it does
def _step(prog: "Prog", host: "Host", err: bool) -> None:
    from ebpfsim.vm.step import Change, Step, Stepper

    line = ""

    def before(step: Step) -> None:
        nonlocal line
        if step.line and step.line != line:
            line = step.line
            click.echo(f"; {line}", err=err)
        click.echo(f"{step.prog.name}: {step.insn_idx:4d}: {step.text}", err=err)

    def changed(change: Change) -> None:
        if isinstance(change.new, int):
            click.echo(f"    {change.what} = {change.new:#x}", err=err)

    stepper = Stepper(prog, host.kernel, before)
    stepper.on_change = changed
    for number in range(11):
        stepper.watch_register(number)
    stepper.start()


def _set_entry(opened: "Object", text: str) -> None:
    head, equals, value = text.partition("=")
    name, colon, key = head.partition(":")
    if not equals or not colon:
        raise InputError("--map", f"'{text}' is not NAME:KEY=VALUE", "blocked:10.0.0.66=1")
    if name not in opened.maps:
        raise InputError("--map", f"no map '{name}'{did_you_mean(name, opened.maps)}")
    opened.maps[name][_number(key)] = _number(value)


def _number(text: str) -> int | str:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _verdict(spec: "ObjectSpec", name: str, retval: int) -> str:
    from ebpfsim.uapi.bpf import ProgType
    from ebpfsim.uapi.net import XdpAction

    known = [int(action) for action in XdpAction]
    return XdpAction(retval).name if spec.programs[name].type is ProgType.XDP and retval in known else ""


def _write(path: str, name: str, records: "list[Any]") -> None:
    from ebpfsim.report.pcapng import Interface, write_pcapng

    try:
        with open(path, "wb") as stream:
            write_pcapng(stream, [Interface(f"prog/{name}")], records)
    except OSError as error:
        raise InputError(path, f"capture cannot be written: {(error.strerror or 'error').lower()}") from None
