/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Find the group of a socket, and the slot of a generation in it. */
#ifndef UDPGRM_GROUPS_H
#define UDPGRM_GROUPS_H

#include "kernel.h"

/*
 * Words of a bit per slot. Without branches: each would double what the verifier has to
 * follow. In 64 bits, which need not be cut to 32 after each step.
 */

/* A word of 32 bits, the last bit first. */
static __always_inline u64 reversed(u32 word)
{
	u64 bits = __builtin_bswap32(word);

	bits = (bits >> 4 & 0x0f0f0f0f) | (bits & 0x0f0f0f0f) << 4;
	bits = (bits >> 2 & 0x33333333) | (bits & 0x33333333) << 2;
	return (bits >> 1 & 0x55555555) | (bits & 0x55555555) << 1;
}

/* Position of the lowest bit of a word of 32 that is not 0; BPF has no such instruction. */
static __always_inline u32 lowest_bit(u64 word)
{
	u64 below = (word & -word) - 1;

	below -= below >> 1 & 0x55555555;
	below = (below & 0x33333333) + (below >> 2 & 0x33333333);
	below = (below + (below >> 4)) & 0x0f0f0f0f;
	return below * 0x01010101 >> 24 & 0xff;
}

static __always_inline u32 slots_per_app(const struct group *group)
{
	u32 apps = group->max_apps;

	return apps ? GENERATION_SLOTS / apps : GENERATION_SLOTS;
}

static __always_inline u32 slot_of(const struct group *group, u32 app, u32 generation)
{
	u32 share = slots_per_app(group);

	return (app * share + generation % share) & (GENERATION_SLOTS - 1);
}

static __always_inline struct group *live_group(u32 group_id, u32 epoch)
{
	struct group *group = bpf_map_lookup_elem(MAP(GROUPS), &group_id);

	if (!group || group->state != GROUP_LIVE || group->epoch != epoch)
		return NULL;
	return group;
}

/* An adoption enters sockets of a server that has clients: until it has all, none is selected. */
static __always_inline bool is_held(const struct group *group)
{
	return group->held_until && bpf_jiffies64() < group->held_until;
}

/* An IPv6 socket that is bound to an IPv4 address has it like any other (RFC 4291, 2.5.5.2). */
static __always_inline void unmap(struct group_key *key)
{
	if (!key->addr[0] && !key->addr[1] && key->addr[2] == V4_MAPPED)
		key->family = AF_INET;
}

/* Whether a key's address is any address. */
static __always_inline bool is_wildcard(const struct group_key *key)
{
	return !(key->addr[0] | key->addr[1] | key->addr[3]) &&
	       (!key->addr[2] || key->addr[2] == V4_MAPPED);
}

static __always_inline u8 any_address_of(const struct group_key *key)
{
	if (!is_wildcard(key))
		return 0;
	return key->addr[2] ? ANY_IPV4_ADDRESS : ANY_ADDRESS;
}

/* The protocol in a group's key, of UDP's number or TCP's; without a branch. */
static __always_inline u8 key_protocol(u32 protocol)
{
	return protocol & IPPROTO_TCP;
}

/*
 * The group of the address and the device that a socket was bound to, whatever
 * has become of them: the kernel has looked then who else is there.
 */
static __always_inline void group_key_of(void *ctx, struct bpf_sock *sk,
					 const struct socket_request *request,
					 struct group_key *key)
{
	/* volatile: merged loads would do arithmetic on the socket's pointer */
	volatile struct bpf_sock *fields = sk;

	key->netns = bpf_get_netns_cookie(ctx);
	key->ifindex = request ? request->ifindex : fields->bound_dev_if;
	key->family = fields->family;
	key->protocol = key_protocol(fields->protocol);
	key->port = htons(fields->src_port);
	key->addr[0] = fields->src_ip6[0];
	key->addr[1] = fields->src_ip6[1];
	key->addr[2] = fields->src_ip6[2];
	key->addr[3] = fields->src_ip6[3];
	if (key->family == AF_INET) {
		key->addr[0] = 0;
		key->addr[1] = 0;
		key->addr[2] = V4_MAPPED;
		key->addr[3] = fields->src_ip4;
	}
	if (request && request->wildcard) {
		key->addr[0] = 0;
		key->addr[1] = 0;
		key->addr[2] = 0;
		if (key->family == AF_INET || request->wildcard == ANY_IPV4_ADDRESS)
			key->addr[2] = V4_MAPPED;
		key->addr[3] = 0;
	}
	unmap(key);
}

/*
 * Root's record is the first, without quota. Others share the rest, so one of
 * a namespace's made-up user ids cannot use up more than a share either.
 */
static __always_inline u32 user_index(u32 uid)
{
	return uid ? 1 + uid % (USERS - 1) : 0;
}

static __always_inline struct user *user_of(u32 uid)
{
	u32 index = user_index(uid);

	return bpf_map_lookup_elem(MAP(USERS), &index);
}

static __always_inline bool over(u32 uid, u32 taken, u32 returned, u64 quota)
{
	return uid && (s32)(taken - returned) >= (s32)quota;
}

/* Some ids of groups and of flow tables are reserved for root. */
static __always_inline bool is_reserved(u32 id)
{
	return id % RESERVE == RESERVE - 1;
}

/*
 * The kernel lets sockets of one user id share an address. A group of another
 * one's there is of sockets that are closed, unless all have SO_REUSEADDR.
 */
static __always_inline bool may_join(const struct socket_request *request,
				     const struct group *group)
{
	return request->uid == group->uid;
}

/*
 * Whether a port, in host byte order, ever had groups: a byte, by which most sockets are told
 * without a lookup of their address. It stays when the groups are gone.
 */
static __always_inline u8 *port_note(u16 port)
{
	u32 zero = 0;
	u8 *ports = bpf_map_lookup_elem(MAP(PORTS), &zero);

	return ports ? ports + port : NULL;
}

static __always_inline void note_port(u16 port)
{
	u8 *note = port_note(port);

	if (note && !*note)
		*note = 1;
}

static __always_inline bool port_has_groups(u16 port)
{
	u8 *note = port_note(port);

	return note && *note;
}

/* The group of a bound socket by its address; *group_id is set when there is one. */
static __always_inline struct group *group_at(const struct group_key *key, u32 *group_id)
{
	u32 *found = bpf_map_lookup_elem(MAP(GROUP_INDEX), (void *)key);
	struct group *group;

	if (!found)
		return NULL;
	*group_id = *found;
	group = bpf_map_lookup_elem(MAP(GROUPS), group_id);
	return group && group->state == GROUP_LIVE ? group : NULL;
}

/* Replace an address by the one that stands for any of its family. */
static __always_inline void make_any(struct group_key *address)
{
	if (address->family == AF_INET6)
		address->addr[0] = address->addr[1] = address->addr[2] = 0;
	address->addr[3] = 0;
}

/*
 * The group of a socket that connects: that at its address, else at any address. Servers of DTLS
 * serve at any, and bind a peer's socket at the address that the peer has asked. Changes the key.
 */
static __always_inline struct group *group_covering(struct group_key *key, u32 *group_id)
{
	struct group *group = group_at(key, group_id);

	if (group || is_wildcard(key))
		return group;
	make_any(key);
	group = group_at(key, group_id);
	if (group || key->family != AF_INET)
		return group;
	key->family = AF_INET6;
	key->addr[2] = 0;
	return group_at(key, group_id);
}

/* State that hooks keep on a socket that bound with SO_REUSEPORT. */
static __always_inline struct socket_request *request_of(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(MAP(SOCKET_REQUEST), sk, NULL, 0);
}

static __always_inline struct registration *registration_of(struct bpf_sock *sk)
{
	return bpf_sk_storage_get(MAP(REGISTRATIONS), sk, NULL, 0);
}

/* A cgroup hook sees every socket of its processes; ours are bound ones of UDP and TCP. */
static __always_inline bool has_groups(u32 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_TCP;
}

static __always_inline bool is_steered(struct bpf_sock *sk)
{
	return has_groups(sk->protocol) && (sk->family == AF_INET || sk->family == AF_INET6);
}

#endif
