"""The x86-64 JIT: programs as machine code, with the results, counts and faults of the interpreter."""
