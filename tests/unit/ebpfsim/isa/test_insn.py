"""Slots and bytes (RFC 9669, section 3)."""

import pytest

from ebpfsim.errors import DecodeError
from ebpfsim.isa.insn import Insn, decode, encode

# example of RFC 9669, section 3.1: "0x07" add, dst r1, imm 0x11223344, little-endian
ADD = bytes.fromhex("0701000044332211")


def test_fields_are_where_rfc_9669_has_them() -> None:
    assert decode(ADD) == (Insn(0x07, 1, 0, 0, 0x11223344),)


def test_registers_share_a_byte_and_numbers_are_signed() -> None:
    insn = Insn(0x7B, dst=10, src=3, off=-8, imm=-1)
    assert encode([insn]) == bytes.fromhex("7b3af8ffffffffff")
    assert decode(encode([insn])) == (insn,)


def test_a_partial_slot_is_refused() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(ADD[:7], "prog.bin")
    assert str(caught.value) == "prog.bin: error: program of 7 bytes is not a whole number of 8-byte instructions"
