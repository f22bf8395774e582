// SPDX-License-Identifier: GPL-2.0-or-later
#include "cookie.h"
#include "options.h"

static __always_inline int answer_word(struct bpf_sockopt *ctx, u32 value)
{
	u32 *word = word_of(ctx, 0);

	if (!word)
		return refuse(EFAULT);
	*word = value;
	ctx->retval = 0;
	return 1;
}

static __always_inline int answer_socket_gen(struct bpf_sockopt *ctx, struct group *group,
					     u32 group_id, struct socket_request *request)
{
	struct registration *registration = registration_of(ctx->sk);
	u32 index = GENERATION_NONE, slot;
	bool is_pending = false;
	u32 *word;

	if (group)
		slot = slot_of(group, request->app, request->generation);
	else
		slot = request->generation % GENERATION_SLOTS;
	/* one that moves keeps its index until the daemon has the next for it */
	if (group && registration && registration->group == group_id + 1 &&
	    registration->epoch == group->epoch && registration->index != INDEX_NONE) {
		index = registration->index;
		is_pending = registration->generation != request->generation;
	}

	word = word_of(ctx, 0);
	if (word)
		*word = request->generation;
	word = word_of(ctx, 1);
	if (word)
		*word = index;
	word = word_of(ctx, 2);
	if (word)
		*word = make_cookie(slot, index) | (u32)is_pending << 16;
	ctx->retval = 0;
	return 1;
}

static __always_inline int answer_dissector(struct bpf_sockopt *ctx, u32 group_id)
{
	u32 *stored = bpf_map_lookup_elem(MAP(DISSECTORS), &group_id);
	u32 i;

	if (!stored)
		return refuse(EBADFD);
#pragma clang loop unroll(disable)
	for (i = 0; i < sizeof(struct dissector) / 4; i++) {
		u32 *word = word_of(ctx, i);

		if (!word)
			break;
		*word = stored[i];
	}
	ctx->retval = 0;
	return 1;
}

/*
 * getsockopt: answers options 200..204 from the socket's storage and its
 * group. Any other option costs three comparisons.
 */
int hook_getsockopt(struct bpf_sockopt *ctx)
{
	struct socket_request *request;
	struct group_key key = {};
	struct group *group = NULL;
	struct bpf_sock *sk;
	u32 group_id = 0;

	if (!is_ours(ctx))
		return pass(ctx);
	sk = ctx->sk;
	if (!sk || !is_steered(sk) || sk->protocol != ctx->level || ctx_retval() != -ENOPROTOOPT)
		return pass(ctx);
	if (ctx->optlen > HOOK_WINDOW)
		return pass(ctx);
	if (ctx->optlen < 4)
		return refuse(EFAULT);

	request = request_of(sk);
	if (request && request->group) {
		group_id = request->group - 1;
		group = live_group(group_id, request->epoch);
	}
	if (!group && sk->src_port) {
		group_key_of(ctx, sk, request, &key);
		group = group_at(&key, &group_id);
	}

	if (request && request->ungrouped)
		request = NULL; /* only its connection counts */

	switch (ctx->optname) {
	case UDP_GRM_WORKING_GEN:
		if (!group)
			return answer_word(ctx, GENERATION_NONE);
		return answer_word(ctx,
				   group->working[request ? request->app & (MAX_APPS - 1) : 0]);
	case UDP_GRM_SOCKET_GEN:
		if (!request)
			return refuse(EBADFD);
		return answer_socket_gen(ctx, group, group_id, request);
	case UDP_GRM_DISSECTOR:
		if (!group)
			return refuse(EBADFD);
		return answer_dissector(ctx, group_id);
	case UDP_GRM_SOCKET_APP:
		if (!request)
			return refuse(EBADFD);
		return answer_word(ctx, request->app);
	default:
		return refuse(EPERM);
	}
}
