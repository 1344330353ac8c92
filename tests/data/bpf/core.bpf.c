// Every kind of CO-RE relocation, resolved and unresolved.
#include "common.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct { int counter; } atomic_t;
struct list_head { struct list_head *next, *prev; };
struct thread_info { unsigned long flags; __u32 status; };
struct cred;
struct task_struct { struct thread_info thread_info; int pid; int tgid; char comm[16]; struct task_struct *group_leader; const struct cred *cred; };
struct task_struct___old { long state; } ;
struct task_struct___new { unsigned int __state; };
struct task_struct___none { int no_such_member; };
struct sk_buff { __u8 pkt_type : 3; __u8 cloned : 1; unsigned int len; union { __u32 mark; __u32 reserved_tailroom; }; __u8 cb[48]; char headers[0]; };
struct tcp_sock { __u32 srtt_us; __u8 nonagle : 4; };
struct sock_common { unsigned short skc_family; union { struct { __u32 skc_daddr, skc_rcv_saddr; }; __u64 skc_addrpair; }; };
struct sock { struct sock_common __sk_common; __u16 sk_type; };
struct net_device { int ifindex; char name[16]; unsigned int mtu; };
struct xdp_frame_bulk { int count; void *xa; void *q[16]; };
struct pid_namespace { unsigned int level; };
struct upid { int nr; struct pid_namespace *ns; };
struct pid { unsigned int level; struct upid numbers[]; };
struct no_such_struct { int x; };
union no_such_union { int x; };
struct sched_entity { __u64 vruntime; };
struct bpf_insn { __u8 code; __u8 dst_reg : 4; __u8 src_reg : 4; __s16 off; __s32 imm; };
#pragma clang attribute pop

enum bpf_map_type___loc { BPF_MAP_TYPE_HASH___loc = 77, BPF_MAP_TYPE_ARENA___loc = 99, BPF_MAP_TYPE_NONE___loc = 3 };
enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID, PIDTYPE_MAX };
enum no_such_enum { NO_SUCH_VALUE = 5 };
enum bpf_link_type___neg { BPF_LINK_TYPE_XDP___neg = -1 };
typedef int pid_t;
typedef int no_such_typedef_t;

volatile __u64 sink;
volatile __u32 pick;

#define F(x) sink += (__u64)(x)

SEC("raw_tp")
int fields(void *ctx)
{
	struct task_struct *task = ctx;
	struct sk_buff *skb = ctx;
	struct sock *sk = ctx;
	struct pid *pid = ctx;
	struct net_device *dev = ctx;
	struct bpf_insn *insn = ctx;
	struct xdp_frame_bulk *bulk = ctx;

	F(&task->pid); F(&task->comm[5]); F(&task->group_leader); F(&task->thread_info.flags);
	F(&((struct task_struct___new *)task)->__state);
	if (bpf_core_field_exists(((struct task_struct___old *)task)->state))
		F(&((struct task_struct___old *)task)->state);
	F(bpf_core_field_exists(((struct task_struct___none *)task)->no_such_member));
	F(bpf_core_field_size(task->comm)); F(bpf_core_field_size(task->pid));
	F(&skb->len); F(&skb->mark); F(&skb->cb[3]); F(&skb->headers);
	F(&sk->__sk_common.skc_daddr); F(&sk->__sk_common.skc_addrpair); F(&sk->sk_type);
	F(&pid->numbers[0].nr); F(&pid->numbers[2].ns); F(&dev->name[1]); F(&bulk->q[4]);
	F(__builtin_preserve_field_info(skb->pkt_type, 0)); F(__builtin_preserve_field_info(skb->pkt_type, 1));
	F(__builtin_preserve_field_info(skb->pkt_type, 3)); F(__builtin_preserve_field_info(skb->pkt_type, 4));
	F(__builtin_preserve_field_info(skb->pkt_type, 5)); F(__builtin_preserve_field_info(task->pid, 3));
	F(__builtin_preserve_field_info(((struct tcp_sock *)sk)->nonagle, 4));
	F(__builtin_preserve_field_info(((struct tcp_sock *)sk)->nonagle, 5));
	F(__builtin_preserve_field_info(insn->src_reg, 4)); F(__builtin_preserve_field_info(insn->off, 3));
	F(((struct no_such_struct *)ctx + 1)->x > 3);
	return 0;
}

SEC("raw_tp")
int types(void *ctx)
{
	F(bpf_core_type_id_local(struct task_struct)); F(bpf_core_type_id_kernel(struct task_struct));
	F(bpf_core_type_id_kernel(struct no_such_struct)); F(bpf_core_type_exists(struct sk_buff));
	F(bpf_core_type_exists(struct no_such_struct)); F(bpf_core_type_exists(union no_such_union));
	F(bpf_core_type_exists(pid_t)); F(bpf_core_type_exists(no_such_typedef_t));
	F(bpf_core_type_exists(enum pid_type)); F(bpf_core_type_exists(enum no_such_enum));
	F(bpf_core_type_size(struct sock)); F(bpf_core_type_size(pid_t)); F(bpf_core_type_size(struct no_such_struct));
	F(bpf_core_type_matches(struct list_head)); F(bpf_core_type_matches(struct sk_buff));
	F(bpf_core_type_matches(struct task_struct)); F(bpf_core_type_matches(enum pid_type));
	F(bpf_core_type_matches(struct sched_entity)); F(bpf_core_type_matches(atomic_t));
	F(bpf_core_enum_value_exists(enum bpf_map_type___loc, BPF_MAP_TYPE_HASH___loc));
	F(bpf_core_enum_value_exists(enum bpf_map_type___loc, BPF_MAP_TYPE_NONE___loc));
	F(bpf_core_enum_value(enum bpf_map_type___loc, BPF_MAP_TYPE_HASH___loc));
	F(bpf_core_enum_value(enum bpf_map_type___loc, BPF_MAP_TYPE_ARENA___loc));
	F(bpf_core_enum_value(enum bpf_link_type___neg, BPF_LINK_TYPE_XDP___neg));
	if (pick)
		F(bpf_core_enum_value(enum no_such_enum, NO_SUCH_VALUE));
	return 0;
}

SEC("tp_btf/sched_switch")
int loads(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct net_device *dev = (void *)ctx[2];

	sink = task->pid + task->tgid + task->comm[2] + task->group_leader->pid + dev->mtu;
	if (pick)
		sink += ((struct task_struct___old *)task)->state;
	return 0;
}

SEC("license") char LICENSE[] = "GPL";
