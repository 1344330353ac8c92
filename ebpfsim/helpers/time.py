"""The clocks that programs read (kernel/bpf/helpers.c, v6.18).

All are the time of the simulation, which is 0 at boot and never suspends, so monotonic and boot time are the same. Time
on a CPU includes the cost of the work in progress there.
"""

from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "HZ", "INITIAL_JIFFIES", "TAI_AT_BOOT_NS", "TICK_NS"]

# CONFIG_HZ of the kernel that the project's facts were measured on
HZ = 250
TICK_NS = 1_000_000_000 // HZ
INITIAL_JIFFIES = (1 << 32) - 300 * HZ  # include/linux/jiffies.h: five minutes before 32 bits wrap
# Differs: the wall clock of every run reads 2025-12-01 00:00:00 UTC at boot, and TAI equals UTC as long as no NTP
# daemon has set the offset
TAI_AT_BOOT_NS = 1_764_547_200 * 1_000_000_000


def ktime_get_ns(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return nanoseconds since boot."""
    return run.cpu.now_ns


def ktime_get_coarse_ns(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return nanoseconds since boot as of the last tick."""
    return run.cpu.now_ns // TICK_NS * TICK_NS


def ktime_get_tai_ns(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return nanoseconds of CLOCK_TAI since 1970."""
    return TAI_AT_BOOT_NS + run.cpu.now_ns


def jiffies64(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the 64-bit tick counter."""
    return INITIAL_JIFFIES + run.cpu.now_ns // TICK_NS


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_ktime_get_ns"]: ktime_get_ns,
    HELPER_IDS["bpf_ktime_get_boot_ns"]: ktime_get_ns,
    HELPER_IDS["bpf_ktime_get_coarse_ns"]: ktime_get_coarse_ns,
    HELPER_IDS["bpf_ktime_get_tai_ns"]: ktime_get_tai_ns,
    HELPER_IDS["bpf_jiffies64"]: jiffies64,
}
