// SPDX-License-Identifier: GPL-2.0-or-later
#include "adopt.h"

/* post_bind6: the same for IPv6. */
int hook_post_bind6(struct bpf_sock *ctx)
{
	struct socket_request *request = newly_bound(ctx);
	struct group_key key = {
		.netns = bpf_get_netns_cookie(ctx),
		.family = AF_INET6,
		.protocol = key_protocol(ctx->protocol),
		.port = htons(ctx->src_port),
		.addr = { ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3] },
	};

	if (!request)
		return 1;
	request->wildcard = any_address_of(&key);
	key.ifindex = request->ifindex;
	unmap(&key);
	return adopt(request, &key);
}
