/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the sockopt hooks: the options of udpgrm, and value lengths. */
#ifndef UDPGRM_OPTIONS_H
#define UDPGRM_OPTIONS_H

#include "groups.h"

enum { HOOK_WINDOW = 4096 }; /* a hook sees no more of a value */

static __always_inline bool is_ours(const struct bpf_sockopt *ctx)
{
	return has_groups(ctx->level) && (u32)(ctx->optname - UDP_GRM_WORKING_GEN) <=
						 UDP_GRM_SOCKET_APP - UDP_GRM_WORKING_GEN;
}

/* The options that change the program of a socket's whole reuseport group. */
static __always_inline bool changes_program(const struct bpf_sockopt *ctx)
{
	return ctx->level == SOL_SOCKET && (ctx->optname == SO_ATTACH_REUSEPORT_CBPF ||
					    ctx->optname == SO_ATTACH_REUSEPORT_EBPF ||
					    ctx->optname == SO_DETACH_REUSEPORT_BPF);
}

/* Lets the kernel join the datagrams of a peer to a train, of which a program sees the first. */
static __always_inline bool asks_for_trains(const struct bpf_sockopt *ctx)
{
	return ctx->level == IPPROTO_UDP && ctx->optname == UDP_GRO;
}

/* Let the kernel have the call; 0 means that a long value is unchanged. */
static __always_inline int pass(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > HOOK_WINDOW)
		ctx->optlen = 0;
	return 1;
}

/*
 * Where word i of the answer is, or NULL: it is as long as the longest of 4, 8, 12, 16, 116, 376
 * and 632 bytes that fits into optlen. The context is read again for each word: what the verifier
 * learns of a length it would follow through every loop after it.
 */
static __always_inline u32 *word_of(struct bpf_sockopt *ctx, u32 i)
{
	volatile struct bpf_sockopt *fresh = ctx;
	u32 *word = (u32 *)fresh->optval + i;
	s32 end = 4 * i + 4;

	if (fresh->optlen < (end <= 16 ? end : end <= 116 ? 116 : end <= 376 ? 376 : 632))
		return NULL;
	if ((void *)(word + 1) > fresh->optval_end)
		return NULL;
	return word;
}

/*
 * Values are as long as the longest of 4, 8, 12, 16, 28 (set only), 116, 376 and 632 bytes that
 * fits into optlen. A shorter value being set counts as 4: the kernel shows 16 bytes of it, zero
 * beyond its length.
 */
static __always_inline s64 set_length(const struct bpf_sockopt *ctx)
{
	s32 given = ctx->optlen;

	if (given >= 632)
		return 632;
	if (given >= 376)
		return 376;
	if (given >= 116)
		return 116;
	if (given >= 28)
		return 28;
	if (given >= 16)
		return 16;
	if (given >= 12)
		return 12;
	return given >= 8 ? 8 : 4;
}

/*
 * Bytes [offset, offset + size) of the value being set, of which `length` count; zero beyond.
 * Copied by the kernel: the verifier would follow a loop over the words for each of them.
 */
static __always_inline void read_value(struct bpf_sockopt *ctx, s64 length, s64 offset, u64 *to,
				       s64 size)
{
	s64 have = length - offset;

	__builtin_memset(to, 0, size);
	if (have > size)
		have = size;
	if (have > 0)
		read_kernel(to, have, ctx->optval + offset);
}

#endif
