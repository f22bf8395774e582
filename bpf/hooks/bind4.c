// SPDX-License-Identifier: GPL-2.0-or-later
#include "bind.h"

/*
 * bind4: gives state to a socket that binds with SO_REUSEPORT set, and sets it for instances
 * of services. Refuses nothing. Costs one getsockopt per bind, and up to two lookups.
 */
int hook_bind4(struct bpf_sock_addr *ctx)
{
	struct group_key key = { .family = AF_INET,
				 .port = ctx->user_port,
				 .addr = { 0, 0, V4_MAPPED, ctx->user_ip4 } };

	return bind_at(ctx, &key);
}
