"""Clocks."""

from typing import Any

from ebpfsim.helpers.time import HZ, TAI_AT_BOOT_NS


def value(machine: Any, helper: str) -> int:
    result: int = machine.run(f"call {helper}; exit").state[0]
    return result


def at(machine: Any, now_ns: int) -> None:
    machine.clock.run(now_ns)
    for cpu in machine.cpus:
        cpu.elapsed_ps = 0


def test_monotonic_and_boot_time_are_simulated_time(machine: Any) -> None:
    at(machine, 123_456_789)
    # one instruction and the helper are 2.3 ns
    assert value(machine, "bpf_ktime_get_ns") == 123_456_791
    at(machine, 123_456_789)
    assert value(machine, "bpf_ktime_get_boot_ns") == 123_456_791


def test_coarse_time_is_that_of_the_last_tick(machine: Any) -> None:
    # measured on 6.18 with CONFIG_HZ=250: steps of 4,000,000 ns
    at(machine, 11_999_000)
    assert value(machine, "bpf_ktime_get_coarse_ns") == 8_000_000


def test_jiffies_begin_five_minutes_before_they_wrap(machine: Any) -> None:
    # measured: 4295558433 at 2664.8 s of uptime
    at(machine, 2_664_500_000_000)
    assert value(machine, "bpf_jiffies64") == (1 << 32) - 300 * HZ + 2664 * HZ + HZ // 2


def test_tai_counts_from_1970(machine: Any) -> None:
    at(machine, 5_000)
    assert value(machine, "bpf_ktime_get_tai_ns") == TAI_AT_BOOT_NS + 5_002
    assert TAI_AT_BOOT_NS // 10**9 == 1_764_547_200  # date -u -d 2025-12-01 +%s
