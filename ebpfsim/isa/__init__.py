"""The instruction set: slots, the one table of operations, arithmetic, assembler, disassembler."""
