// SPDX-License-Identifier: GPL-2.0-or-later
#include "bind.h"

/* bind6: the same for IPv6. */
int hook_bind6(struct bpf_sock_addr *ctx)
{
	struct group_key key = { .family = AF_INET6,
				 .port = ctx->user_port,
				 .addr = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
					   ctx->user_ip6[3] } };

	unmap(&key);
	return bind_at(ctx, &key);
}
