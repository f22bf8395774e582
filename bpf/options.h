/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the sockopt hooks share: which calls are ours, and value lengths. */
#ifndef UDPGRM_OPTIONS_H
#define UDPGRM_OPTIONS_H

#include "groups.h"

enum { HOOK_WINDOW = 4096 }; /* a hook sees no more of a value */

static __always_inline bool is_ours(const struct bpf_sockopt *ctx)
{
	return ctx->level == IPPROTO_UDP && (u32)(ctx->optname - UDP_GRM_WORKING_GEN) <=
						    UDP_GRM_SOCKET_APP - UDP_GRM_WORKING_GEN;
}

enum {
	SO_ATTACH_REUSEPORT_CBPF = 51,
	SO_ATTACH_REUSEPORT_EBPF = 52,
	SO_DETACH_REUSEPORT_BPF = 68,
	UDP_GRO = 104,
};

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

/* Let the kernel have the call; 0 tells it that a long value is untouched. */
static __always_inline int pass(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > HOOK_WINDOW)
		ctx->optlen = 0;
	return 1;
}

/*
 * Values are as long as the longest of 4, 8, 12, 16, 28 (set only), 116, 376
 * and 632 bytes that fits into optlen: how long optlen has to be for word i.
 */
static __always_inline s32 length_for(u32 i, bool is_set)
{
	u32 end = 4 * i + 4;

	if (end <= 16)
		return end;
	if (is_set && end <= 28)
		return 28;
	if (end <= 116)
		return 116;
	return end <= 376 ? 376 : 632;
}

/*
 * Where word i of the value is, or NULL. The context is read anew for each
 * word: what the verifier learns of a length it would follow through every
 * loop after it.
 */
static __always_inline u32 *word_of(struct bpf_sockopt *ctx, u32 i, bool is_set)
{
	volatile struct bpf_sockopt *fresh = ctx;
	u32 *word = (u32 *)fresh->optval + i;

	/* of a shorter value being set the kernel shows 16 bytes, zeroed beyond it */
	if ((i || !is_set) && fresh->optlen < length_for(i, is_set))
		return NULL;
	if ((void *)(word + 1) > fresh->optval_end)
		return NULL;
	return word;
}

/* Word i of the value being set; zero beyond its length. */
static __always_inline u32 word_at(struct bpf_sockopt *ctx, u32 i)
{
	u32 *word = word_of(ctx, i, true);

	return word ? *word : 0;
}

#endif
