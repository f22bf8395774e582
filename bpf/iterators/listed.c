// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "iterators/sockets.h"

/* The id of the program of a kernel group (struct sock_reuseport). */
static __always_inline u32 program_of(u64 kernel_group)
{
	u64 program = 0, aux = 0;
	u32 id = 0;

	if (!kernel_group)
		return 0;
	read_kernel(&program, sizeof(program),
		    (void *)(kernel_group + CONST(REUSEPORT_PROG_OFFSET)));
	if (!program)
		return 0;
	read_kernel(&aux, sizeof(aux), (void *)(program + CONST(PROG_AUX_OFFSET)));
	read_kernel(&id, sizeof(id), (void *)(aux + CONST(PROG_ID_OFFSET)));
	return id ?: PROGRAM_CLASSIC;
}

static __always_inline void read_peer(struct bpf_sock *sk, const struct socket_words *words,
				      struct flow_key *peer)
{
	peer->port = words->remote_port;
	if (words->family == AF_INET) {
		peer->addr[2] = V4_MAPPED;
		/* it is just before the local one */
		read_member(sk, CONST(SK_ADDRESS_OFFSET) - 4, &peer->addr[3],
			    sizeof(peer->addr[3]));
	} else {
		read_member(sk, CONST(SK_PEER6_OFFSET), peer->addr, sizeof(peer->addr));
	}
}

/*
 * Emits a record of each socket of a generation, and of those in none that bind(2) has given
 * SO_REUSEADDR: for the daemon, which enters those of adopted cgroups, and for diagnosis. From one
 * read(2) to the next sockets may be missed or repeated.
 */
int list_sockets(struct socket_iterator *ctx)
{
	/* read once: Linux 6.1 knows of each reading whether it was compared with NULL */
	struct bpf_sock *sk = ctx->sk;
	struct iterator_meta *meta = ctx->meta;
	struct socket_record record = {};
	struct socket_request *request;
	struct registration *registration;
	struct socket_words words;

	if (!sk)
		return 0;
	request = bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, NULL, 0);
	if (!request)
		return 0;
	record.connected = is_connected(sk, &words);
	record.shares = !!(words.flags & REUSES_PORT);
	record.lent = request->lent && words.flags & REUSES_ADDRESS;
	if (!find_membership(request, &record.of) &&
	    (record.connected || !record.lent ||
	     !find_group_at(sk, &words, IPPROTO_UDP, &record.of)))
		return 0;
	if (record.connected)
		read_peer(sk, &words, &record.peer);
	record.cookie = request->cookie;
	record.pid = request->bound_pid;
	record.fd = request->bound_fd;
	record.bound_at = request->bound_at;
	record.parted = request->parted && !record.shares;
	record.adopted = request->adopted;
	read_member(sk, CONST(SK_REUSEPORT_OFFSET), &record.kernel_group,
		    sizeof(record.kernel_group));
	record.program = program_of(record.kernel_group);
	registration = bpf_sk_storage_get(MAP(REGISTRATIONS), sk, NULL, 0);
	if (registration && registration->group == record.of.group &&
	    registration->epoch == record.of.epoch &&
	    registration->generation == record.of.generation &&
	    registration->array_entry != ENTRY_NONE)
		record.entered = 1;
	emit(meta, &record, sizeof(record));
	return 0;
}
