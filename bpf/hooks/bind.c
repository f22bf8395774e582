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

	/* a second bind(2) fails */
	if (!sk || ctx->protocol != IPPROTO_UDP || sk->src_port)
		return 1;
	if (bpf_getsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &reuseport, sizeof(reuseport)))
		return 1;
	/* of an attempt that failed, or of a port that it has left */
	bpf_sk_storage_delete(MAP(SOCKET_REQUEST), sk);
	if (!reuseport)
		return 1;
	request.cookie = socket_cookie(ctx);
	request.uid = field_of(sk, CONST(SK_UID_OFFSET));
	bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, &request, BPF_SK_STORAGE_GET_F_CREATE);
	return 1;
}
