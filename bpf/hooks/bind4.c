// SPDX-License-Identifier: GPL-2.0-or-later
#include "bind.h"

/* Whether sockets that connect(2) has parted from its group are at the address. */
static __always_inline bool has_parted(struct bpf_sock_addr *ctx, u32 uid)
{
	struct group_key key = { .family = AF_INET,
				 .port = ctx->user_port,
				 .netns = bpf_get_netns_cookie(ctx),
				 .ifindex = ctx->sk->bound_dev_if,
				 .addr = { 0, 0, V4_MAPPED, ctx->user_ip4 } };
	struct group *group;
	u32 id = 0;

	group = group_at(&key, &id);
	return group && group->parted && group->uid == uid;
}

/*
 * bind4: gives state to a UDP socket that binds with SO_REUSEPORT set. Refuses
 * nothing. Costs one getsockopt per UDP bind, those with SO_REUSEPORT a lookup.
 */
int hook_bind4(struct bpf_sock_addr *ctx)
{
	struct socket_request request = {};

	if (!new_request(ctx, &request))
		return 1;
	/* it would conflict with those; the daemon takes this back when it registers the socket */
	if (CONST(CONNECT_PARTS) && has_parted(ctx, request.uid) && !has_option(ctx, SO_REUSEADDR))
		request.lent = set_option(ctx, SO_REUSEADDR, 1);
	store_request(ctx, &request);
	return 1;
}
