"""Broken objects and BTF in any number: ``make fuzz``.

``run.py --count N --seed S --jobs J``: each input is opened, relocated, loaded into a bpf(2) that only remembers, and
its types are printed. InputError, KernelError and NotModelled are answers; anything else, more than 2 s of CPU time or
more than 1 GiB is a failure, and its input is kept in build/fuzz. Prints what was done; exits with 1 when something
failed.
"""

import argparse
import faulthandler
import importlib.util
import multiprocessing
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent / "support")]

from broken_inputs import mutant, seeds  # noqa: E402

from ebpfsim.btf.btf import Btf  # noqa: E402
from ebpfsim.btf.dump import dump_c  # noqa: E402
from ebpfsim.errors import EbpfSimError, InputError, KernelError, NotModelled  # noqa: E402
from ebpfsim.loader import Object, open_object  # noqa: E402
from ebpfsim.uapi.bpf import ProgType  # noqa: E402

BATCH = 500
MAX_SECONDS = 2.0
MAX_BYTES = 1 << 30
MAX_SHOWN = 10

Result = tuple[Counter[str], list[tuple[int, str]]]


class TooSlow(Exception):
    """An input took more than its time."""


@cache
def _remembered() -> Any:
    path = ROOT / "tests" / "unit" / "ebpfsim" / "loader" / "conftest.py"
    spec = importlib.util.spec_from_file_location("remembered", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["remembered"] = module
    spec.loader.exec_module(module)
    return module.Remembered


@cache
def _inputs() -> list[tuple[str, bytes]]:
    return seeds()


def check(data: bytes) -> str:
    """Do with an input all that users do; return what came of it."""
    try:
        if data[:2] == b"\x9f\xeb":
            _types(Btf(data))
            return "types"
        obj = open_object(data, where="fuzz.o")
    except InputError:
        return "refused"
    answers = [_use(obj, program) for program in list(obj.programs)[:8]]
    answers.append(_load(obj))
    if obj.spec.btf is not None:
        try:
            _types(obj.spec.btf)
        except InputError:
            answers.append("types refused")
    return "loaded" if set(answers) <= {"ok"} else "opened"


def _types(btf: Btf) -> None:
    btf.validate()
    dump_c(btf)


def _use(obj: Object, program: str) -> str:
    try:
        obj.relocate(program)
    except (InputError, KernelError, NotModelled):
        return "refused"
    return "ok"


def _load(obj: Object) -> str:
    for program in obj:
        if program.type == ProgType.UNSPEC:
            program.type = ProgType.XDP
    for map_ in obj.maps.values():
        # the kernel, not the loader, limits sizes, and checks those of keys
        small = map_.value_size < 1 << 24 and map_.max_entries < 1 << 14 and map_.key_size < 1 << 16
        map_.autocreate = map_.autocreate and small and not (map_.spec.slots and map_.key_size != 4)
    try:
        for variables in (obj.rodata, obj.data, obj.bss, obj.kconfig):
            for name in list(variables)[:20]:
                _ = variables[name]
        for table in obj.struct_ops.values():
            dict(table)
        with obj.load(_remembered()()):
            for map_ in obj.maps.values():
                if map_.created and map_.value_size < 1 << 16:
                    map_.decode_value(bytes(map_.value_size))
                    map_.decode_key(bytes(map_.key_size))
    except (InputError, KernelError, NotModelled):
        return "refused"
    return "ok"


def _late(signum: int, frame: FrameType | None) -> None:
    raise TooSlow


def batch(first: int) -> Result:
    """Check ``BATCH`` inputs from number ``first`` on."""
    counts: Counter[str] = Counter()
    failed = []
    signal.signal(signal.SIGVTALRM, _late)
    for seed in range(first, first + BATCH):
        how, data = mutant(_inputs(), seed)
        signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS)
        try:
            counts[check(data)] += 1
        except EbpfSimError as error:
            failed.append((seed, f"{how}: {type(error).__name__}: {error}"))
        except TooSlow:
            failed.append((seed, f"{how}: more than {MAX_SECONDS} s\n{traceback.format_exc(limit=-6)}"))
        except (Exception, RecursionError, MemoryError) as error:
            failed.append((seed, f"{how}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"))
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return counts, failed


def limit_memory() -> None:
    """Let this process have 1 GiB more than it has now."""
    _inputs()
    _remembered()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_BYTES, resource.RLIM_INFINITY))


def main() -> int:
    """Check many inputs; keep those that fail."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    faulthandler.enable()
    counts: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    started = time.monotonic()
    with multiprocessing.Pool(args.jobs, limit_memory) as pool:
        for found, bad in pool.imap_unordered(batch, range(args.seed, args.seed + args.count, BATCH)):
            counts += found
            failed += bad
            done = counts.total() + len(failed)
            if done % 20_000 < BATCH:
                print(f"{done} inputs, {time.monotonic() - started:.0f} s, {len(failed)} failed", file=sys.stderr)
    folder = ROOT / "build" / "fuzz"
    for seed, _ in sorted(failed):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}.o").write_bytes(mutant(_inputs(), seed)[1])
    for seed, text in sorted(failed)[:MAX_SHOWN]:
        print(f"{seed}: {text}")
    print(", ".join(f"{what} {count}" for what, count in sorted(counts.items())) + f", failed {len(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
