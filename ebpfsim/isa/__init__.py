"""The instruction set: slots, the one table of operations, arithmetic, assembler, disassembler.

>>> from ebpfsim.isa.asm import assemble
>>> from ebpfsim.isa.disasm import disasm
>>> slots = assemble("r0 = *(u32 *)(r1 + 4); exit")
>>> disasm(slots, 0)
'(61) r0 = *(u32 *)(r1 +4)'
"""
