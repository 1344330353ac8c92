// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A congestion control of TCP in BPF: the window grows by one segment for each that is acknowledged until it reaches
// the threshold, then by one a round trip; a loss halves it. A table of functions (struct_ops) registers it under a name,
// as a module of the kernel would.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock {
	int dummy;
} KERNEL_STRUCT;
struct tcp_sock {
	__u32 snd_cwnd;
	__u32 snd_cwnd_cnt;
	__u32 snd_ssthresh;
	__u32 prior_cwnd;
} KERNEL_STRUCT;
struct tcp_congestion_ops {
	void (*init)(struct sock *sk);
	void (*release)(struct sock *sk);
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

// how often each function was called, and the largest window
enum { INIT, CONG_AVOID, SSTHRESH, RELEASE, LARGEST, SLOTS };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

static __always_inline void called(__u32 function)
{
	__u64 *count = bpf_map_lookup_elem(&calls, &function);

	if (count)
		*count += 1;
}

// `ctx` has the arguments: the socket, and for cong_avoid() the acknowledged number and how many segments those are.
SEC("struct_ops")
void aimd_init(__u64 *ctx)
{
	called(INIT);
}

SEC("struct_ops")
void aimd_release(__u64 *ctx)
{
	called(RELEASE);
}

SEC("struct_ops")
__u32 aimd_ssthresh(__u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	__u32 half = tp->snd_cwnd / 2;

	called(SSTHRESH);
	return half > 2 ? half : 2;
}

SEC("struct_ops")
void aimd_cong_avoid(__u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];
	__u32 acked = ctx[2], largest = LARGEST;
	__u64 *most;

	called(CONG_AVOID);
	if (tp->snd_cwnd < tp->snd_ssthresh) {
		tp->snd_cwnd += acked;
	} else {
		tp->snd_cwnd_cnt += acked;
		if (tp->snd_cwnd_cnt >= tp->snd_cwnd) {
			tp->snd_cwnd_cnt = 0;
			tp->snd_cwnd++;
		}
	}
	most = bpf_map_lookup_elem(&calls, &largest);
	if (most && *most < tp->snd_cwnd)
		*most = tp->snd_cwnd;
}

SEC("struct_ops")
__u32 aimd_undo_cwnd(__u64 *ctx)
{
	struct tcp_sock *tp = (void *)ctx[0];

	return tp->snd_cwnd > tp->prior_cwnd ? tp->snd_cwnd : tp->prior_cwnd;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops aimd = {
	.init = (void *)aimd_init,
	.release = (void *)aimd_release,
	.ssthresh = (void *)aimd_ssthresh,
	.cong_avoid = (void *)aimd_cong_avoid,
	.undo_cwnd = (void *)aimd_undo_cwnd,
	.name = "bpf_aimd",
};

char LICENSE[] SEC("license") = "GPL";
