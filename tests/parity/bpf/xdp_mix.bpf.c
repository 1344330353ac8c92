// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Every verdict of XDP, by the last byte of the packet: drop, pass, TX with changed addresses, redirect by map and by
// interface index, heads and tails that grow and shrink, metadata; what was done is counted.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct counter);
} stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} lengths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

volatile const __u32 out_ifindex = 0;

static __always_inline int done(__u32 kind, __u64 bytes, int verdict)
{
	struct counter *counter = bpf_map_lookup_elem(&stats, &kind);

	if (counter) {
		counter->packets++;
		counter->bytes += bytes;
	}
	return verdict;
}

static __always_inline int swap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *words = data;

	if (data + 14 > end)
		return XDP_ABORTED;
	for (int i = 0; i < 3; i++) {
		__u16 word = words[i];

		words[i] = words[i + 3];
		words[i + 3] = word;
	}
	return XDP_TX;
}

SEC("xdp")
int mix(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 length = end - data;
	__u64 one = 1, *seen;
	__u8 last = 0;

	bpf_xdp_load_bytes(ctx, length - 1, &last, 1);
	seen = bpf_map_lookup_elem(&lengths, &length);
	if (seen)
		__sync_fetch_and_add(seen, 1);
	else
		bpf_map_update_elem(&lengths, &length, &one, 0);
	switch (last % 12) {
	case 0:
		return done(0, length, XDP_DROP);
	case 1:
		return done(1, length, XDP_ABORTED);
	case 2:
	case 3:
		return done(2, length, swap(ctx));
	case 4:
		return done(4, length, bpf_redirect_map(&targets, last % 4, XDP_DROP));
	case 5:
		return done(5, length, bpf_redirect(out_ifindex, 0));
	case 6:
		if (bpf_xdp_adjust_head(ctx, -(int)(last / 2)))
			return done(15, length, XDP_DROP);
		// what the head grows by is whatever was there
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		for (int i = 0; i < last / 2 && data + i + 1 <= end; i++)
			((__u8 *)data)[i] = i;
		return done(6, length, bpf_redirect_map(&targets, 1, 0));
	case 7:
		if (bpf_xdp_adjust_head(ctx, last / 8))
			return done(15, length, XDP_DROP);
		return done(7, length, bpf_redirect_map(&targets, 1, 0));
	case 8:
		if (bpf_xdp_adjust_tail(ctx, last / 4))
			return done(14, length, bpf_redirect_map(&targets, 1, 0));
		return done(8, length, bpf_redirect_map(&targets, 1, 0));
	case 9:
		if (bpf_xdp_adjust_tail(ctx, -(int)(last / 4)))
			return done(15, length, XDP_DROP);
		return done(9, length, bpf_redirect_map(&targets, 1, 0));
	case 10:
		if (bpf_xdp_adjust_meta(ctx, -(int)(last % 64)))
			return done(13, length, XDP_PASS);
		return done(10, length, XDP_PASS);
	}
	return done(11, length, XDP_PASS);
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
