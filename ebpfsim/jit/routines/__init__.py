"""Native routines by what they work on: eBPF assembly as text (see ``ebpfsim.jit.routine``)."""
