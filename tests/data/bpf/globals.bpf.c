// Global variables of every kind of section, static and hidden ones among them.
#include "common.h"

struct limits {
	__u32 low, high;
	union {
		__u64 wide;
		struct {
			__u32 a, b;
		};
	};
};

const volatile __u32 threshold = 7;
const volatile char tag[8] = "abc";
const volatile bool debug;
static const volatile __u64 secret = 0x1122334455667788;
__u64 hits;
static __u32 quiet;
struct limits limits = { .low = 1, .high = 2, .wide = 3 };
__hidden int hidden_var = 5;
int special SEC(".data.special") = 42;
static int special_static SEC(".data.special") = 43;
const volatile int fixed SEC(".rodata.fixed") = 9;
int late SEC(".bss.late");

SEC("xdp")
int touch(struct xdp_md *ctx)
{
	hits += threshold + limits.high + hidden_var + special + fixed + secret;
	quiet++;
	special_static += quiet;
	late = debug ? tag[0] : limits.a;
	bpf_printk("hits %d", hits);
	return hits & 1 ? XDP_PASS : XDP_DROP;
}

// uses none of them: libbpf binds .rodata to it
SEC("xdp")
int plain(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("license") char LICENSE[] = "Dual BSD/GPL";
