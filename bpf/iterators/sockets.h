/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Iterators over the UDP or the TCP sockets of a network namespace. The kernel calls them for each
 * socket when a process of that namespace reads their pin, and once more at the end. They read the
 * sockets themselves, so nothing has to be counted while it happens: not a connect that fails,
 * a disconnect, a fork, or what came before the hooks.
 */
#ifndef UDPGRM_ITERATORS_SOCKETS_H
#define UDPGRM_ITERATORS_SOCKETS_H

#include "groups.h"
#include "iterators/emit.h"

enum {
	TCP_CLOSE_WAIT = 8, /* the peer sends no more */
};

/* Head of the kernel's struct bpf_iter__udp or bpf_iter__tcp. */
struct socket_iterator {
	struct iterator_meta *meta;
	struct bpf_sock *sk; /* NULL: this is the end */
};

/* The words of struct sock_common from skc_dport on. */
struct socket_words {
	u16 remote_port; /* network byte order */
	u16 port;
	u16 family;
	u8 state;
	u8 flags; /* REUSES_PORT, ... */
};

static __always_inline bool is_connected(struct bpf_sock *sk, struct socket_words *words)
{
	read_member(sk, CONST(SK_PORTS_OFFSET), words, sizeof(*words));
	return words->state == TCP_ESTABLISHED;
}

/* Count a connected socket of a generation, for the reader of this session. */
static __always_inline void count_one(const struct connected_key *key)
{
	u64 one = 1, *count = bpf_map_lookup_elem(MAP(CONNECTED), (void *)key);

	if (count)
		(*count)++;
	else
		bpf_map_update_elem(MAP(CONNECTED), (void *)key, &one, BPF_ANY);
}

/* The generation that a socket is of, by its own call or by those of its process. */
static __always_inline bool find_membership(const struct socket_request *request,
					    struct membership *found)
{
	if (request->registered && request->group) {
		found->group = request->group;
		found->epoch = request->epoch;
		found->generation = request->generation;
		found->app = request->app;
	} else {
		*found = request->process;
	}
	return found->group && live_group(found->group - 1, found->epoch);
}

/*
 * The group at the address that a socket has, of any owner. Of one that was bound to any
 * address connect(2) or accept(2) has made a particular one.
 */
static __always_inline bool find_group_at(struct bpf_sock *sk, const struct socket_words *words,
					  u32 protocol, struct membership *found)
{
	struct group_key key = { .family = words->family,
				 .protocol = key_protocol(protocol),
				 .port = htons(words->port) };
	struct group *group;
	u64 net = 0;
	u32 group_id = 0;

	read_member(sk, CONST(SK_NET_OFFSET), &net, sizeof(net));
	read_kernel(&key.netns, sizeof(key.netns), (void *)(net + CONST(NET_COOKIE_OFFSET)));
	read_member(sk, CONST(SK_DEVICE_OFFSET), &key.ifindex, sizeof(key.ifindex));
	if (words->family == AF_INET) {
		key.addr[2] = V4_MAPPED;
		read_member(sk, CONST(SK_ADDRESS_OFFSET), &key.addr[3], sizeof(key.addr[3]));
	} else {
		read_member(sk, CONST(SK_ADDRESS6_OFFSET), key.addr, sizeof(key.addr));
		unmap(&key);
	}
	group = group_covering(&key, &group_id);
	if (!group)
		return false;
	found->group = group_id + 1;
	found->epoch = group->epoch;
	found->generation = GENERATION_NONE;
	found->app = 0;
	return true;
}

#endif
