"""ebpfsim: a deterministic, full-system emulator of Linux's BPF subsystem."""

__version__ = "0.1.0"
