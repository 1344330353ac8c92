// Tables of functions: members the kernel has and has not, optional tables, a program in two tables, plain members.
#include "common.h"

struct sock;

struct tcp_congestion_ops___mine {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	void (*no_such_function)(struct sock *sk);
	__u32 flags;
	__u32 no_such_number;
	char name[16];
};

SEC("struct_ops")
__u32 thresh(__u64 *ctx)
{
	return 2;
}

SEC("struct_ops")
void avoid(__u64 *ctx)
{
}

SEC("struct_ops/undo")
__u32 undo(__u64 *ctx)
{
	return 3;
}

SEC("struct_ops")
void begin(__u64 *ctx)
{
}

SEC("struct_ops.s")
void never(__u64 *ctx)
{
}

SEC(".struct_ops")
struct tcp_congestion_ops___mine first = {
	.ssthresh = (void *)thresh,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.flags = 1,
	.name = "bpf_first",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops___mine second = {
	.ssthresh = (void *)thresh,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
	.name = "bpf_second",
};

SEC("?.struct_ops")
struct tcp_congestion_ops___mine optional = {
	.ssthresh = (void *)thresh,
	.init = (void *)begin,
	.no_such_function = (void *)never,
	.no_such_number = 7,
	.name = "bpf_optional",
};

char LICENSE[] SEC("license") = "GPL";
