"""The comparisons of this folder at any size: ``make differential`` and ``make safety``.

``run.py verified``: programs that the verifier accepts, on both engines, and on Linux where bpf(2) is allowed.
``run.py unverified``: programs that nobody has verified, on both engines, plain and in debug mode.
``run.py safety``: loads and stores by wild pointers.
``run.py soundness``: verified programs in debug mode, all registers inside the verifier's abstract states.
``run.py verdicts``: programs of all sorts, our verifier's answer and log beside Linux'.

Work is cut into batches, each of which a seed determines; a difference names its seed. Prints what was done to standard
output, progress to standard error; exits with 1 when something differs.
"""

import argparse
import faulthandler
import importlib.util
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "support")]

# programs or accesses of a batch
BATCHES = {"verified": 200, "unverified": 200, "safety": 20_000, "soundness": 100, "verdicts": 500}
MAX_SHOWN = 5

# what a batch gives: counts by name, and differences
Result = tuple[Counter[str], list[str]]


@cache
def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _machine() -> Any:
    return _module(HERE.parent / "conftest.py").Machine


@cache
def _linux(allowed: bool) -> tuple[Any, int]:
    # bpf(2) of this machine, and the CPU that this process keeps to, because values of per-CPU maps tell it
    if not allowed or not _module(HERE.parent / "conftest.py")._bpf_allowed():
        return None, 0
    from ebpfsim.live import Bpf

    cpus = sorted(os.sched_getaffinity(0))
    cpu = cpus[(multiprocessing.current_process()._identity or (0,))[0] % len(cpus)]
    os.sched_setaffinity(0, {cpu})
    return Bpf(), cpu


@contextmanager
def _hot(at_once: bool) -> Iterator[None]:
    # the interpreter's blocks become functions at their first execution, with all ways on from there
    from ebpfsim.vm import hot

    before = hot.HEAT, hot.RARE
    if at_once:
        hot.HEAT, hot.RARE = 1, 0
    try:
        yield
    finally:
        hot.HEAT, hot.RARE = before


def verified(seed: int, count: int, live: bool) -> Result:
    """Run verified programs; every tenth batch is in debug mode, which has nothing to say of them.

    Every tenth one has hot blocks only.
    """
    from side_by_side import Difference, SideBySide

    linux, cpu = _linux(live)
    debug, hot = seed % 10 == 9, seed % 10 == 4
    sides = SideBySide(seed, linux, cpu=cpu, debug=debug)
    differences: list[str] = []
    try:
        with _hot(hot):
            while sides.counts["programs"] < count:
                sides.step()
    except Difference as difference:
        differences.append(f"verified, seed {seed}: {difference}")
    finally:
        sides.close()
    sides.counts["in debug mode"] = sides.counts["programs"] if debug else 0
    sides.counts["in hot blocks"] = sides.counts["programs"] if hot else 0
    sides.counts["on Linux"] = sides.counts["programs"] if linux is not None else 0
    sides.counts["other verdicts than Linux"] = len(sides.verdicts)
    sides.counts.update({f"row {name}": number for name, number in sides.rows.items()})
    return sides.counts, differences + [f"verdict, seed {seed}: {verdict}" for verdict in sides.verdicts]


def unverified(seed: int, count: int, _live: bool) -> Result:
    """Run unverified programs: every fourth batch stays in bounds, every fourth one is in debug mode.

    Half of those that are not in debug mode have hot blocks only.
    """
    wild, debug, hot = seed % 4 != 0, seed % 4 == 1, seed % 8 >= 4 and seed % 4 != 1
    seen: set[str] = set()
    differences = _module(HERE / "test_engines.py").differences
    with _hot(hot):
        found = differences(_machine(), seed, count, wild=wild, debug=debug, seen=seen)
    counts = Counter({"programs": count, "in debug mode": count * debug, "in bounds": count * (not wild)})
    counts["in hot blocks"] = count * hot
    return counts, [f"unverified, seed {seed}: {' '.join(found)}"] if found else []


def safety(seed: int, count: int, _live: bool) -> Result:
    """Make accesses by machine code, plain and in debug mode; every tenth batch in the interpreter."""
    engine, debug = "interp" if seed % 10 == 9 else "jit", seed % 2 == 1
    name = f"{engine}{' debug' if debug else ''}"
    try:
        seen = _module(HERE / "test_safety.py").accesses(_machine()(debug=debug), engine, seed, count)
    except AssertionError as error:
        return Counter(), [f"safety, seed {seed}, {name}: {error}"]
    return Counter({"accesses": count, f"by {name}": count, **seen}), []


def soundness(seed: int, count: int, _live: bool) -> Result:
    """Run verified programs step by step and look for registers that no abstract state holds."""
    from abstract_states import Violation, Watched

    watched = Watched(seed)
    try:
        watched.steps(count)
    except Violation as violation:
        return watched.counts, [f"soundness, seed {seed}: {violation}"]
    finally:
        watched.close()
    return watched.counts, []


def verdicts(seed: int, count: int, live: bool) -> Result:
    """Load programs here and into Linux; every tenth one has the log of every step compared."""
    if not live or not _module(HERE.parent / "conftest.py")._bpf_allowed():
        return Counter(), []
    both = _verdicts()
    before = both.accepted
    seeds = range(seed * BATCHES["verdicts"], seed * BATCHES["verdicts"] + count)
    found = [text for number in seeds if (text := both.differs(number, 6 if number % 10 == 0 else 5))]
    counts = Counter({"programs": count, "accepted": both.accepted - before})
    return counts, [f"verdicts, {text}" for text in found]


@cache
def _verdicts() -> Any:
    sys.path.insert(0, str(HERE.parent / "verifier"))
    return _module(HERE.parent / "verifier" / "test_live_random.py").Verdicts()


WORK: dict[str, Callable[[int, int, bool], Result]] = {
    "verified": verified,
    "unverified": unverified,
    "safety": safety,
    "soundness": soundness,
    "verdicts": verdicts,
}


def _batch(task: tuple[str, int, int, bool]) -> tuple[str, int, Result]:
    name, seed, count, live = task
    faulthandler.enable()
    return name, count, WORK[name](seed, count, live)


def run(names: list[str], count: int, seed: int, jobs: int, live: bool) -> bool:
    """Do some work and print what came of it; tell whether nothing differs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    tasks = [
        (name, seed + number, min(BATCHES[name], count - start), live)
        for name in names
        for number, start in enumerate(range(0, count, BATCHES[name]))
    ]
    totals: dict[str, Counter[str]] = {name: Counter() for name in names}
    differences: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with multiprocessing.Pool(jobs) as pool, Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {name: progress.add_task(name, total=count) for name in names}
        for name, done, (counts, found) in pool.imap_unordered(_batch, tasks):
            totals[name] += counts
            for text in found:
                differences.append(text)
                progress.console.print(text[:2000], markup=False)
            progress.advance(bars[name], done)
            task = progress.tasks[bars[name]]
            steps = [int(completed * 20 // count) for completed in (task.completed - done, task.completed)]
            if not progress.console.is_terminal and steps[0] != steps[1]:
                # where there is no terminal a line now and then has to do
                progress.console.print(f"{name}: {task.completed:,.0f} of {count:,}")
    for name, counts in totals.items():
        rows = {key: number for key, number in counts.items() if key.startswith("row ")}
        words = [f"{number:,} {key}" for key, number in counts.items() if key not in rows and number]
        if rows:
            words.append(f"{len(rows)} rows of instructions, each at least {min(rows.values()):,} times")
        print(f"{name}: {', '.join(words)}")
    wrong = [text for text in differences if not text.startswith("verdict,")]
    for text in differences[:MAX_SHOWN]:
        print(text)
    print(f"{len(wrong)} differences" if wrong else "no difference")
    return not wrong


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=list(WORK))
    parser.add_argument("--count", type=int, default=10_000, help="programs or accesses")
    parser.add_argument("--seed", type=int, default=1, help="of the first batch")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--no-live", action="store_true", help="leave this machine's kernel alone")
    options = parser.parse_args()
    return 0 if run(options.what, options.count, options.seed, options.jobs, not options.no_live) else 1


if __name__ == "__main__":
    sys.exit(main())
