#include "common.h"
#define CASTS(name, section)                    \
    SEC(section) int name(void *ctx) {          \
        void *kernel = bpf_cast_to_kern_ctx(ctx); \
        return kernel != 0;                     \
    }
CASTS(a, "raw_tp/sys_enter")
CASTS(b, "tp_btf/sys_enter")
CASTS(c1, "kprobe/x")
CASTS(d, "tp/syscalls/sys_enter_read")
CASTS(e, "perf_event")
CASTS(f, "syscall")
CASTS(g, "iter/task")
CASTS(h, "sk_lookup")
CASTS(i, "sk_reuseport")
CASTS(j, "cgroup/dev")
CASTS(k1, "cgroup/sysctl")
CASTS(l, "cgroup/getsockopt")
CASTS(m, "cgroup/bind4")
CASTS(n, "cgroup/sock_create")
CASTS(o, "sockops")
CASTS(p, "sk_msg")
CASTS(q, "sk_skb")
CASTS(r, "flow_dissector")
CASTS(s, "lwt_in")
CASTS(t, "xdp")
CASTS(u, "tc")
CASTS(v, "socket")
CASTS(w, "netfilter")
CASTS(x, "raw_tp.w/x")
CASTS(y, "cgroup_skb/egress")

