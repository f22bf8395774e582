// SPDX-License-Identifier: GPL-2.0-or-later
#include "bind.h"

/* bind6: the same for IPv6, where connect(2) parts nothing. */
int hook_bind6(struct bpf_sock_addr *ctx)
{
	struct socket_request request = {};

	if (new_request(ctx, &request))
		store_request(ctx, &request);
	return 1;
}
