"""The hash of ``ebpfsim.maps.jhash`` as eBPF assembly, for keys of one size."""

from ebpfsim.isa.alu import s32, u32
from ebpfsim.maps.jhash import FINAL, INITVAL, MIX

__all__ = ["NR_TEMPS", "jhash_text"]

NR_TEMPS = 6
MAX_UNROLLED_BYTES = 36


def jhash_text(key_size: int, key: int, temps: tuple[int, ...]) -> str:
    """Return what leaves the hash of the key at register ``key`` in the first of six registers; all of them change."""
    return _Hash(key_size, key, temps).text()


class _Hash:
    def __init__(self, key_size: int, key: int, temps: tuple[int, ...]) -> None:
        self.key_size, self.key = key_size, key
        c, a, b, self.temp, self.at, self.end = temps
        self.regs = (a, b, c)
        # what a, b and c are where no register is needed for it
        self.known: list[int | None] = [u32(INITVAL + key_size)] * 3
        self.lines: list[str] = []

    def text(self) -> str:
        rounds = (self.key_size - 1) // 12
        off = 12 * rounds
        if self.key_size <= MAX_UNROLLED_BYTES:
            for number in range(rounds):
                self.mix(12 * number)
        else:
            self.loop(off)
            off = 0
        for word in range(3):
            self.add_word(word, off + 4 * word, min(self.key_size - 12 * rounds - 4 * word, 4))
        for x, y, bits in FINAL:
            self.final_row(x, y, bits)
        return "\n".join(self.lines)

    def say(self, *lines: str) -> None:
        self.lines += lines

    def loop(self, length: int) -> None:
        self.say(f"r{self.at} = r{self.key}", f"r{self.end} = r{self.key}", f"r{self.end} += {length}")
        for word in range(3):
            self.put(word)
        self.key = self.at
        self.say("jhash_round:")
        self.mix(0)
        self.say(f"r{self.at} += 12", f"if r{self.at} != r{self.end} goto jhash_round")

    def mix(self, off: int) -> None:
        for word in range(3):
            self.add_word(word, off + 4 * word, 4)
        for x, y, z, bits in MIX:
            self.say(f"w{self.regs[x]} -= w{self.regs[y]}")
            self.rotated(x, "^=", y, bits)
            self.say(f"w{self.regs[y]} += w{self.regs[z]}")

    def final_row(self, x: int, y: int, bits: int) -> None:
        of_x, of_y = self.known[x], self.known[y]
        if of_x is not None and of_y is not None:
            self.known[x] = u32((of_x ^ of_y) - (of_y << bits | of_y >> 32 - bits))
        elif of_y is not None:
            rotated = u32(of_y << bits | of_y >> 32 - bits)
            self.say(f"w{self.regs[x]} ^= {s32(of_y)}", f"w{self.regs[x]} -= {s32(rotated)}")
        else:
            self.put(x)
            self.say(f"w{self.regs[x]} ^= w{self.regs[y]}")
            self.rotated(x, "-=", y, bits)

    def rotated(self, x: int, op: str, y: int, bits: int) -> None:
        # both halves of a rotated number, one after the other: they have no bits in common
        temp = self.temp
        for shift in (f"<<= {bits}", f">>= {32 - bits}"):
            self.say(f"w{temp} = w{self.regs[y]}", f"w{temp} {shift}", f"w{self.regs[x]} {op} w{temp}")

    def put(self, word: int) -> None:
        known = self.known[word]
        if known is not None:
            self.say(f"w{self.regs[word]} = {s32(known)}")
            self.known[word] = None

    def add_word(self, word: int, off: int, size: int) -> None:
        if size <= 0:
            return
        reg, temp, key = self.regs[word], self.temp, self.key
        known = self.known[word]
        bits = 32 if size == 4 else 16 if size > 1 else 8
        load = f"*(u{bits} *)(r{key} + {off})"
        if known is None:
            self.say(f"r{temp} = {load}", f"w{reg} += w{temp}")
        else:
            self.say(f"r{reg} = {load}", f"w{reg} += {s32(known)}")
            self.known[word] = None
        if size == 3:
            self.say(f"r{temp} = *(u8 *)(r{key} + {off + 2})", f"w{temp} <<= 16", f"w{reg} += w{temp}")
