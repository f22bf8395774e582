// SPDX-License-Identifier: GPL-2.0-or-later
#include "adopt.h"

/* post_bind4: enrolls further sockets of adopted processes. */
int hook_post_bind4(struct bpf_sock *ctx)
{
	struct socket_request *request = newly_bound(ctx);
	struct group_key key = {
		.netns = bpf_get_netns_cookie(ctx),
		.family = AF_INET,
		.protocol = key_protocol(ctx->protocol),
		.port = htons(ctx->src_port),
		.addr = { 0, 0, V4_MAPPED, ctx->src_ip4 },
	};

	if (!request)
		return 1;
	request->wildcard = !ctx->src_ip4;
	key.ifindex = request->ifindex;
	return adopt(request, &key);
}
