// Externs that the kernel provides: kfuncs, typed and typeless variables, weak ones that it does not have.
#include "common.h"

struct bpf_iter_num;
struct rq___any { int nr_running; };

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
extern void bpf_no_such_kfunc(void *it) __ksym __weak;
extern void bpf_rcu_read_lock___flavour(void) __ksym;
extern const void bpf_prog_array_no_such __ksym __weak;
extern const struct rq___any runqueues __ksym;
extern const int no_such_variable __ksym __weak;

int sum;

struct bpf_iter_num { __u64 opaque[1]; } __attribute__((aligned(8)));

SEC("raw_tp")
int iterate(void *ctx)
{
	struct bpf_iter_num it;
	int *v;

	bpf_iter_num_new(&it, 0, 4);
	while ((v = bpf_iter_num_next(&it)))
		sum += *v;
	bpf_iter_num_destroy(&it);
	if (bpf_no_such_kfunc)
		bpf_no_such_kfunc(ctx);
	if (&no_such_variable)
		sum += *(&no_such_variable);
	return &bpf_prog_array_no_such ? 1 : 0;
}

SEC("raw_tp")
int variables(void *ctx)
{
	sum += (int)(long)&runqueues;
	bpf_rcu_read_lock___flavour();
	return 0;
}

SEC("license") char LICENSE[] = "GPL";
