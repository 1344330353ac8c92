// The table of a computed goto, as LLVM 22 emits it; Linux has maps for them since 6.19.
#include "common.h"

SEC("socket")
__attribute__((naked)) int jumps(void)
{
	asm volatile(
	".pushsection .jumptables,\"\",@progbits\n"
	"table:\n"
	"	.quad first - socket\n"
	"	.quad second - socket\n"
	".size table, 16\n"
	".global table\n"
	".popsection\n"
	"	r0 = table ll\n"
	"first:\n"
	"	r0 = 0\n"
	"second:\n"
	"	exit\n"
	:: : "r0");
}

SEC("xdp")
int plain(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
