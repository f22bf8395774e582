// SPDX-License-Identifier: GPL-2.0-or-later
#include "account.h"

/* sendmsg6: the same for IPv6 peers. */
int hook_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct flow_key key = { .addr = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
					  ctx->user_ip6[3] },
				.port = ctx->user_port };

	return ctx->sk ? account_send(ctx->sk, &key) : 1;
}
