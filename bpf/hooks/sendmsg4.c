// SPDX-License-Identifier: GPL-2.0-or-later
#include "account.h"

/*
 * sendmsg4: an unconnected send to an IPv4 peer makes or refreshes the flow
 * of that peer. Allows every send. One storage lookup for a socket of no group.
 */
int hook_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct flow_key key = { .addr = { 0, 0, V4_MAPPED, ctx->user_ip4 },
				.port = ctx->user_port };

	return ctx->sk ? account_send(ctx->sk, &key) : 1;
}
