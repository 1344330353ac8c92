// A full hash map, every update flag, deletions, and flags that do not exist.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

long answers[32];
__u32 runs;

SEC("xdp")
int hash_full(struct xdp_md *ctx)
{
	__u32 base = runs++ * 11;

	for (__u32 i = 0; i < 11; i++) {
		__u32 key = (base + i * 7) % 13;
		__u64 value = base + i;
		long answer;

		switch (i % 4) {
		case 0: answer = bpf_map_update_elem(&table, &key, &value, BPF_ANY); break;
		case 1: answer = bpf_map_update_elem(&table, &key, &value, BPF_NOEXIST); break;
		case 2: answer = bpf_map_update_elem(&table, &key, &value, BPF_EXIST); break;
		default: answer = bpf_map_delete_elem(&table, &key);
		}
		answers[(base + i) & 31] = answer;
	}

	__u32 key = 1;
	__u64 value = 1;

	answers[0] += bpf_map_update_elem(&table, &key, &value, 3);
	answers[1] += bpf_map_update_elem(&table, &key, &value, BPF_F_LOCK);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
