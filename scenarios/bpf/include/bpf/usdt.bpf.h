/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments of static tracepoints of user space (USDT). Whoever attaches a program reads from the binary where each
 * argument is, in a register or in memory, and writes it into the map __bpf_usdt_specs in libbpf's format; the cookie
 * of the attachment is the number of the entry.
 */
#ifndef USDT_BPF_H
#define USDT_BPF_H

#define BPF_USDT_MAX_ARG_CNT 12

enum { BPF_USDT_ARG_CONST, BPF_USDT_ARG_REG, BPF_USDT_ARG_REG_DEREF, BPF_USDT_ARG_SIB };

struct __bpf_usdt_arg_spec {
	__u64 val_off;
	__u32 arg_type : 8;
	__u32 idx_reg_off : 12;
	__u32 scale_bitshift : 4;
	__u32 reserved : 8;
	short reg_off;
	_Bool arg_signed;
	char arg_bitshift;
};

struct __bpf_usdt_spec {
	struct __bpf_usdt_arg_spec args[BPF_USDT_MAX_ARG_CNT];
	__u64 usdt_cookie;
	short arg_cnt;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, int);
	__type(value, struct __bpf_usdt_spec);
} __bpf_usdt_specs SEC(".maps");

/* The argument of that number, from 0 on; 0, or a negative number when there is none. */
static __noinline int bpf_usdt_arg(struct pt_regs *ctx, __u64 arg_num, long *res)
{
	int spec_id = bpf_get_attach_cookie(ctx);
	struct __bpf_usdt_spec *spec = bpf_map_lookup_elem(&__bpf_usdt_specs, &spec_id);
	struct __bpf_usdt_arg_spec *arg;
	unsigned long val = 0, idx = 0;

	*res = 0;
	if (!spec || arg_num >= BPF_USDT_MAX_ARG_CNT)
		return -2;
	barrier_var(arg_num);
	if (arg_num >= BPF_USDT_MAX_ARG_CNT || arg_num >= spec->arg_cnt)
		return -2;
	arg = &spec->args[arg_num];
	if (arg->arg_type == BPF_USDT_ARG_CONST)
		val = arg->val_off;
	else if (bpf_probe_read_kernel(&val, sizeof(val), (void *)ctx + arg->reg_off))
		return -14;
	if (arg->arg_type == BPF_USDT_ARG_REG_DEREF && bpf_probe_read_user(&val, sizeof(val), (void *)val + arg->val_off))
		return -14;
	if (arg->arg_type == BPF_USDT_ARG_SIB) {
		if (bpf_probe_read_kernel(&idx, sizeof(idx), (void *)ctx + arg->idx_reg_off))
			return -14;
		idx <<= arg->scale_bitshift;
		if (bpf_probe_read_user(&val, sizeof(val), (void *)(val + idx + arg->val_off)))
			return -14;
	}
	val <<= arg->arg_bitshift;
	if (arg->arg_signed)
		*res = (long)val >> arg->arg_bitshift;
	else
		*res = val >> arg->arg_bitshift;
	return 0;
}

#endif /* USDT_BPF_H */
