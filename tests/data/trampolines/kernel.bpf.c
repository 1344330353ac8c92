// Programs for functions and tracepoints of the kernel, as SEC() names them; each counts its runs.
#include "../bpf/common.h"

__u64 runs[8];

SEC("fentry/bpf_fentry_test1")
int fentry(__u64 *ctx)
{
	runs[0]++;
	return 0;
}

SEC("fexit/bpf_fentry_test1")
int fexit(__u64 *ctx)
{
	runs[1]++;
	return 0;
}

SEC("kprobe/bpf_fentry_test1")
int kprobe(void *ctx)
{
	runs[2]++;
	return 0;
}

SEC("kretprobe/bpf_fentry_test1")
int kretprobe(void *ctx)
{
	runs[3]++;
	return 0;
}

SEC("kprobe.multi/bpf_fentry_test?")
int multi(void *ctx)
{
	runs[4]++;
	return 0;
}

SEC("raw_tp/bpf_trigger_tp")
int raw_tp(__u64 *ctx)
{
	runs[5]++;
	return 0;
}

SEC("tp_btf/bpf_trigger_tp")
int tp_btf(__u64 *ctx)
{
	runs[6]++;
	return 0;
}

SEC("lsm/file_open")
int lsm(__u64 *ctx)
{
	runs[7]++;
	return -13;
}

SEC("xdp")
int plain(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("license") char LICENSE[] = "GPL";
