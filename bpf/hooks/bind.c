// SPDX-License-Identifier: GPL-2.0-or-later
#include "groups.h"

/*
 * bind4, bind6: gives state to a UDP socket that binds with SO_REUSEPORT set.
 * Refuses nothing. Here because the socket cookie is not to be had in the
 * sockopt hooks. Costs one getsockopt per UDP bind.
 */
int hook_bind(struct bpf_sock_addr *ctx)
{
	struct socket_request request = { .generation = GENERATION_NONE };
	struct bpf_sock *sk = ctx->sk;
	int reuseport = 0;

	if (!sk || ctx->protocol != IPPROTO_UDP)
		return 1;
	if (bpf_getsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &reuseport, sizeof(reuseport)))
		return 1;
	if (!reuseport) {
		/* of an attempt that failed, when it was set */
		bpf_sk_storage_delete(MAP(SOCKET_REQUEST), sk);
		return 1;
	}
	request.cookie = socket_cookie(ctx);
	request.ifindex = sk->bound_dev_if;
	request.uid = bpf_get_current_uid_gid();
	bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, &request, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}
