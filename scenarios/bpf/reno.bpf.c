// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Reno as a table of functions: what net/ipv4/tcp_cong.c does to the window, in BPF. TCP calls it for every socket that
// has chosen "bpf_reno" (setsockopt TCP_CONGESTION); `calls` counts how often, by function.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock;
struct tcp_sock {
	__u32 snd_cwnd;
	__u32 snd_cwnd_cnt;
	__u32 snd_cwnd_clamp;
	__u32 snd_ssthresh;
	__u32 prior_cwnd;
	__u32 max_packets_out;
	__u8 is_cwnd_limited : 1;
} KERNEL_STRUCT;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

enum { SSTHRESH, CONG_AVOID, UNDO_CWND, FUNCTIONS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FUNCTIONS);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

static void count(__u32 function)
{
	__u64 *value = bpf_map_lookup_elem(&calls, &function);

	if (value)
		*value += 1;
}

// enum bpf_field_info_kind: where a bit field lies in the kernel that runs
#define FIELD_BYTE_OFFSET 0
#define FIELD_LSHIFT_U64 4
#define FIELD_RSHIFT_U64 5

static int is_cwnd_limited(const struct tcp_sock *tp)
{
	__u64 bits;

	bits = *(const __u8 *)((const char *)tp + __builtin_preserve_field_info(tp->is_cwnd_limited, FIELD_BYTE_OFFSET));
	bits <<= __builtin_preserve_field_info(tp->is_cwnd_limited, FIELD_LSHIFT_U64);
	bits >>= __builtin_preserve_field_info(tp->is_cwnd_limited, FIELD_RSHIFT_U64);
	if (bits)
		return 1;
	// in slow start the window may be twice of what was used
	return tp->snd_cwnd < tp->snd_ssthresh && tp->snd_cwnd < 2 * tp->max_packets_out;
}

static __u32 at_most(__u32 value, __u32 limit)
{
	return value < limit ? value : limit;
}

SEC("struct_ops")
__u32 reno_ssthresh(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	__u32 half = tp->snd_cwnd >> 1;

	count(SSTHRESH);
	return half > 2 ? half : 2;
}

SEC("struct_ops")
__u32 reno_undo_cwnd(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	__u32 now = tp->snd_cwnd, before = tp->prior_cwnd;

	count(UNDO_CWND);
	return now > before ? now : before;
}

SEC("struct_ops")
void reno_cong_avoid(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	__u32 acked = ctx[2], cwnd = tp->snd_cwnd, counted = tp->snd_cwnd_cnt, w;

	count(CONG_AVOID);
	if (!is_cwnd_limited(tp))
		return;
	if (cwnd < tp->snd_ssthresh) {
		// slow start: one for each, up to the threshold
		__u32 grown = at_most(cwnd + acked, tp->snd_ssthresh);

		acked -= grown - cwnd;
		cwnd = at_most(grown, tp->snd_cwnd_clamp);
		tp->snd_cwnd = cwnd;
		if (!acked)
			return;
	}
	// congestion avoidance: one for each window
	w = cwnd;
	if (!w)
		return;
	if (counted >= w) {
		counted = 0;
		cwnd += 1;
	}
	counted += acked;
	if (counted >= w) {
		__u32 more = counted / w;

		counted -= more * w;
		cwnd += more;
	}
	tp->snd_cwnd_cnt = counted;
	tp->snd_cwnd = at_most(cwnd, tp->snd_cwnd_clamp);
}

SEC(".struct_ops.link")
struct tcp_congestion_ops reno = {
	.ssthresh = (void *)reno_ssthresh,
	.cong_avoid = (void *)reno_cong_avoid,
	.undo_cwnd = (void *)reno_undo_cwnd,
	.name = "bpf_reno",
};

// the same under the same name, to take its place while connections run
SEC("?.struct_ops.link")
struct tcp_congestion_ops again = {
	.ssthresh = (void *)reno_ssthresh,
	.cong_avoid = (void *)reno_cong_avoid,
	.undo_cwnd = (void *)reno_undo_cwnd,
	.name = "bpf_reno",
};

char LICENSE[] SEC("license") = "GPL";
