// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A tuner of TCP: connections to one port get another congestion control, from their first segment on. It asks to be told
// of round trips, retransmissions and changes of state, and writes a record when a connection has come to its end.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SOL_TCP 6
#define TCP_CONGESTION 13
#define TCP_CLOSE 7

struct closed {
	__u32 local_port;
	__u32 remote_port;
	__u32 round_trips;
	__u32 retransmitted;
	__u64 bytes_acked;
	char congestion[16];
};
struct closed *unused_closed __attribute__((unused)); // for the type to be in BTF

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} samples SEC(".maps"); // of round trips, by the remote port

__u64 active = 0, passive = 0, listening = 0, retransmits = 0;
const volatile __u16 tuned_port = 5001;
const volatile char congestion[16] = "reno";

static __always_inline void established(struct bpf_sock_ops *ops)
{
	char name[16];

	bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG);
	if (bpf_ntohl(ops->remote_port) != tuned_port)
		return;
	__builtin_memcpy(name, (const void *)congestion, sizeof(name));
	bpf_setsockopt(ops, SOL_TCP, TCP_CONGESTION, name, sizeof(name));
}

static __always_inline void round_trip(struct bpf_sock_ops *ops)
{
	__u32 port = bpf_ntohl(ops->remote_port), one = 1, *count = bpf_map_lookup_elem(&samples, &port);

	if (count)
		++*count;
	else
		bpf_map_update_elem(&samples, &port, &one, BPF_ANY);
}

static __always_inline void ended(struct bpf_sock_ops *ops)
{
	__u32 port = bpf_ntohl(ops->remote_port), *count = bpf_map_lookup_elem(&samples, &port);
	struct closed *end = bpf_ringbuf_reserve(&ends, sizeof(*end), 0);

	if (!end)
		return;
	end->local_port = ops->local_port;
	end->remote_port = port;
	end->round_trips = count ? *count : 0;
	end->retransmitted = ops->total_retrans;
	end->bytes_acked = ops->bytes_acked;
	__builtin_memset(end->congestion, 0, sizeof(end->congestion));
	bpf_getsockopt(ops, SOL_TCP, TCP_CONGESTION, end->congestion, sizeof(end->congestion));
	bpf_ringbuf_submit(end, 0);
}

SEC("sockops")
int tune(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listening++;
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		active++;
		established(ops);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		passive++;
		break;
	case BPF_SOCK_OPS_RTT_CB:
		round_trip(ops);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		retransmits++;
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == TCP_CLOSE)
			ended(ops);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
