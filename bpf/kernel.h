/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Missing in bcc's own headers: references that the package binds when it
 * links (there is no bcc table here), errnos, and helpers with full types.
 */
#ifndef UDPGRM_KERNEL_H
#define UDPGRM_KERNEL_H

#include "abi.h"

#define MAP(name) ((void *)bpf_pseudo_fd(1, MAP_##name))
#define CONST(name) bpf_pseudo_fd(1, CONST_##name)

enum {
	AF_INET = 2,
	AF_INET6 = 10,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	TCP_ESTABLISHED = 1, /* also a UDP socket's state while it is connected */
	SOL_SOCKET = 1,
	SO_REUSEADDR = 2,
	SO_REUSEPORT = 15,
	SO_ATTACH_REUSEPORT_CBPF = 51,
	SO_ATTACH_REUSEPORT_EBPF = 52,
	SO_DETACH_REUSEPORT_BPF = 68,
	UDP_GRO = 104,
};

/* The first bits of a byte of struct sock_common: skc_reuse, of 4 bits, and skc_reuseport. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define REUSES_ADDRESS 0x0f
#define REUSES_PORT 0x10
#else
#define REUSES_ADDRESS 0xf0
#define REUSES_PORT 0x08
#endif

enum {
	EPERM = 1,
	EBADF = 9,
	EAGAIN = 11,
	EEXIST = 17,
	EFAULT = 14,
	EOVERFLOW = 75,
	EBADFD = 77,
	ENOENT = 2,
	ENOPROTOOPT = 92,
};

#ifndef unlikely
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif
#define htons(x) __builtin_bswap16(x)
#define ntohs(x) __builtin_bswap16(x)
#define V4_MAPPED 0xffff0000 /* 00 00 ff ff on the wire, read as u32 */

/* bcc declares a 32-bit return value. */
static __always_inline u64 socket_cookie(void *ctx)
{
	return ((u64(*)(void *))BPF_FUNC_get_socket_cookie)(ctx);
}

/* bcc rewrites the plain name to bpf_probe_read where kallsyms shows no addresses. */
static __always_inline void read_kernel(void *to, u32 size, const void *from)
{
	((long (*)(void *, u32, const void *))BPF_FUNC_probe_read_kernel)(to, size, from);
}

/* Read a member of an object of the kernel, at an offset that is bound when a program is linked. */
static __always_inline void read_member(const void *of, u64 offset, void *value, u32 size)
{
	u64 address = 0;

	/* the verifier allows no arithmetic on the pointer itself */
	read_kernel(&address, sizeof(address), &of);
	read_kernel(value, size, (void *)(address + offset));
}

/* A u32 of struct sock that struct bpf_sock has not, or not for this hook. */
static __always_inline u32 field_of(struct bpf_sock *sk, u64 offset)
{
	u32 value = 0;

	read_member(sk, offset, &value, sizeof(value));
	return value;
}

/* Continue in a program of an array; returns only if there is none. */
static __always_inline void tail_call(void *ctx, void *programs, u32 stage)
{
	((long (*)(void *, void *, u32))BPF_FUNC_tail_call)(ctx, programs, stage);
}

/* A function of the context that the package makes and links: enum linked_function. */
#define CALL_LINKED(name, ctx) (((s64(*)(void *))FUNCTION_##name)(ctx))

/*
 * An array's index as a key on the stack, of which a lookup reads 4 bytes. All 8 are
 * written: a slot of the stack that is half written counts as one that is read, and
 * paths that differ only in what was there before are followed apart.
 */
static __always_inline u64 array_key(u32 index)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? index : (u64)index << 32;
}

/* Has a variable of the stack written whole before its parts, for the same reason. */
#define WRITE_WHOLE(variable) asm volatile("" : : "r"(&(variable)) : "memory")

/*
 * Hide from the compiler what it knows of a number. It merges comparisons and
 * drops masks that are needed to tell the verifier how large a number can be.
 */
#define OPAQUE(number) asm volatile("" : "+r"(number))

/*
 * 0, made of any number that the verifier does not know, so that it does not know this
 * one either: what differs only in such numbers is to it the same, and followed once.
 */
static __always_inline u32 unknown_zero(u64 number)
{
	u64 zero = number;

	OPAQUE(zero);
	return zero ^ number;
}

static __always_inline int ctx_retval(void)
{
	return ((int (*)(void))BPF_FUNC_get_retval)();
}

/* The value a cgroup hook refuses with. */
static __always_inline int refuse(int error)
{
	((int (*)(int))BPF_FUNC_set_retval)(-error);
	return 0;
}

#endif
