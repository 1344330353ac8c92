/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that trace functions get an array of 64-bit words (fentry, fexit, fmod_ret, lsm, tp_btf) or the registers
 * (kprobe, kretprobe). BPF_PROG, BPF_KPROBE and BPF_KRETPROBE make arguments with types of them, at most five.
 */
#ifndef BPF_TRACING_H
#define BPF_TRACING_H

/* what the kernel has, found by its names wherever it lies: CO-RE */
#define KERNEL_STRUCT __attribute__((preserve_access_index))

/* struct pt_regs of x86-64: the first arguments of a function and its result */
struct pt_regs {
	unsigned long cx, dx, si, di, r8, ax;
} KERNEL_STRUCT;

#define ___count(_0, _1, _2, _3, _4, _5, count, ...) count
#define ___args(...) ___count(_0, ##__VA_ARGS__, 5, 4, 3, 2, 1, 0)
#define ___paste(a, b) a##b
#define ___name(a, b) ___paste(a, b)

#define ___words0()
#define ___words1(x) , (void *)ctx[0]
#define ___words2(x, ...) ___words1(x), (void *)ctx[1]
#define ___words3(x, ...) ___words2(x), (void *)ctx[2]
#define ___words4(x, ...) ___words3(x), (void *)ctx[3]
#define ___words5(x, ...) ___words4(x), (void *)ctx[4]
#define ___words(...) ___name(___words, ___args(__VA_ARGS__))(__VA_ARGS__)

#define ___regs0()
#define ___regs1(x) , (void *)ctx->di
#define ___regs2(x, ...) ___regs1(x), (void *)ctx->si
#define ___regs3(x, ...) ___regs2(x), (void *)ctx->dx
#define ___regs4(x, ...) ___regs3(x), (void *)ctx->cx
#define ___regs5(x, ...) ___regs4(x), (void *)ctx->r8
#define ___regs(...) ___name(___regs, ___args(__VA_ARGS__))(__VA_ARGS__)

/* words become arguments of any type that is no wider; nobody but the compiler sees the casts */
#define ___wrap(name, context, words, ...)                                                      \
	name(context *ctx);                                                                     \
	static __always_inline int ___##name(context *ctx, ##__VA_ARGS__);                      \
	int name(context *ctx)                                                                  \
	{                                                                                       \
		_Pragma("GCC diagnostic push")                                                  \
		_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")                          \
		return ___##name(ctx words);                                                    \
		_Pragma("GCC diagnostic pop")                                                   \
	}                                                                                       \
	static __always_inline int ___##name(context *ctx, ##__VA_ARGS__)

#define BPF_PROG(name, ...) ___wrap(name, unsigned long long, ___words(__VA_ARGS__), ##__VA_ARGS__)
#define BPF_KPROBE(name, ...) ___wrap(name, struct pt_regs, ___regs(__VA_ARGS__), ##__VA_ARGS__)
#define BPF_KRETPROBE(name, result) ___wrap(name, struct pt_regs, ___result, result)
#define ___result , (void *)ctx->ax

#endif /* BPF_TRACING_H */
