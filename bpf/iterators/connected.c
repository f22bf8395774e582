// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "iterators/sockets.h"

/*
 * Counts the connected sockets of each generation for the reader of this session, and those at a
 * group's address of which nothing is known (of generation -1). Emits nothing but the session's
 * number, at the end: so one read(2) goes over all sockets, and the kernel neither misses nor
 * repeats any, as it may from one read to the next. Costs about 100 ns per UDP socket.
 */
int count_connected(struct socket_iterator *ctx)
{
	/* read once: Linux 6.1 knows of each reading whether it was compared with NULL */
	struct bpf_sock *sk = ctx->sk;
	struct iterator_meta *meta = ctx->meta;
	struct socket_request *request;
	struct connected_key key = {};
	struct socket_words words;

	key.session = meta->session;
	if (!sk) {
		emit(meta, &key.session, sizeof(key.session));
		return 0;
	}
	if (!is_connected(sk, &words))
		return 0;
	request = bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, NULL, 0);
	if (!(request && find_membership(request, &key.of)) &&
	    !find_group_at(sk, &words, IPPROTO_UDP, &key.of))
		return 0;
	count_one(&key);
	return 0;
}
