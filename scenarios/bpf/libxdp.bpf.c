// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A dispatcher in libxdp's manner: ten places for programs, called one after the other as long as what each returns is
// among its chain call actions. A place that nobody has taken returns XDP_DISPATCHER_RETVAL. The manager in user space
// sets `conf` before it loads the dispatcher: it is constant, so a change means another dispatcher in its place.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define XDP_DISPATCHER_RETVAL 31
#define MAX_PROGS 10

struct dispatcher_config {
	__u8 num_progs_enabled;
	__u32 chain_call_actions[MAX_PROGS];
	__u32 run_prios[MAX_PROGS];
};

const volatile struct dispatcher_config conf = {};

#define PROG(name)                                           \
	__noinline int name(struct xdp_md *ctx)              \
	{                                                    \
		volatile int ret = XDP_DISPATCHER_RETVAL;    \
                                                             \
		if (!ctx)                                    \
			return XDP_ABORTED;                  \
		return ret;                                  \
	}

PROG(prog0)
PROG(prog1)
PROG(prog2)
PROG(prog3)
PROG(prog4)
PROG(prog5)
PROG(prog6)
PROG(prog7)
PROG(prog8)
PROG(prog9)

#define CALL(number)                                                      \
	if (conf.num_progs_enabled < number + 1)                          \
		goto out;                                                 \
	ret = prog##number(ctx);                                          \
	if (!((1U << ret) & conf.chain_call_actions[number]))             \
		return ret;

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	int ret;

	CALL(0)
	CALL(1)
	CALL(2)
	CALL(3)
	CALL(4)
	CALL(5)
	CALL(6)
	CALL(7)
	CALL(8)
	CALL(9)
out:
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
