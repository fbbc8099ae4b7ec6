/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the programs need to know of the kernel, and no more: no vmlinux.h, no UAPI headers.
 * Each fact with its source. Knows nothing of barriers.
 */
#ifndef BARRIERD_KERNEL_H
#define BARRIERD_KERNEL_H

/* include/uapi/asm-generic/int-ll64.h and include/uapi/linux/types.h, as libbpf's helper
 * definitions expect them. */
typedef unsigned char __u8;
typedef signed short __s16;
typedef unsigned short __u16;
typedef signed int __s32;
typedef unsigned int __u32;
typedef signed long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

/* include/linux/types.h */
typedef _Bool bool;

/* include/uapi/linux/bpf.h */
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_F_MMAPABLE (1U << 10)
#define BPF_RB_FORCE_WAKEUP (1ULL << 1)

/* include/linux/sched.h: kernel threads, io_uring's workers (which run in user memory) excepted. */
#define PF_KTHREAD 0x00200000

/* include/linux/sched.h. The offsets come from the running kernel's BTF when the program is loaded. */
struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	unsigned int __state; /* since 5.14; 0: wants to run */
	int on_cpu; /* kernels for more than one CPU; 1 while the task runs: see who_is_idle */
} __attribute__((preserve_access_index));

#endif
