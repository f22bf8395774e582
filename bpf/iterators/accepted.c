// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "iterators/sockets.h"

/*
 * Counts the connections of TCP of each generation, as count_connected() counts sockets of UDP:
 * those that its listeners have accepted or are to accept, and that the server has not closed.
 * Costs about 100 ns per TCP socket.
 */
int count_accepted(struct socket_iterator *ctx)
{
	/* read once: Linux 6.1 knows of each reading whether it was compared with NULL */
	struct bpf_sock *sk = ctx->sk;
	struct iterator_meta *meta = ctx->meta;
	struct connected_key key = {};
	struct membership *accepted;
	struct socket_words words;

	key.session = meta->session;
	if (!sk) {
		emit(meta, &key.session, sizeof(key.session));
		return 0;
	}
	if (!is_connected(sk, &words) && words.state != TCP_CLOSE_WAIT)
		return 0;
	accepted = bpf_sk_storage_get(MAP(ACCEPTED), sk, NULL, 0);
	if (accepted && accepted->group && live_group(accepted->group - 1, accepted->epoch))
		key.of = *accepted;
	else if (!find_group_at(sk, &words, IPPROTO_TCP, &key.of))
		return 0;
	count_one(&key);
	return 0;
}
