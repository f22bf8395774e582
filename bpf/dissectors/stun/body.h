/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * stun: Binding requests of ICE name their session in USERNAME, the server's
 * ufrag first (RFC 8445, 7.2.2); four of its characters are the udpgrm cookie
 * in hexadecimal. Whatever else comes from a peer (media, DTLS, other STUN)
 * goes where its last such request went: that is noted in the flow table of
 * the request's generation, and a peer is in one table at a time.
 */
#include "dissectors/results.h"

enum {
	STUN_HEADER = 20,
	STUN_BINDING_REQUEST = 0x0001,
	STUN_COOKIE_AT = 4,
	STUN_COOKIE = 0x2112a442,
	STUN_USERNAME = 0x0006,
	STUN_ATTRIBUTES = 8, /* of which one is the USERNAME */
	UFRAG_DIGITS = 4,
};

/*
 * A hexadecimal digit's value; bits above the lowest four for anything else.
 * Without branches: each would double what the verifier has to follow.
 */
static __always_inline u32 hex_digit(u32 character)
{
	u32 value = (character & 0xf) + 9 * (character >> 6);
	u32 lower = character | (character >> 1 & 0x20);
	u32 same = value + '0' + ('a' - '9' - 1) * ((value + 6) >> 4 & 1);

	return value | (same ^ lower) << 4;
}

/* Four digits, the first one in the highest byte; -1: others than digits. */
static __always_inline int hex_word(u32 text, u32 *value)
{
	u32 a = hex_digit(text >> 24), b = hex_digit(text >> 16 & 0xff);
	u32 c = hex_digit(text >> 8 & 0xff), d = hex_digit(text & 0xff);

	*value = a << 12 | b << 8 | c << 4 | d;
	return (a | b | c | d) > 0xf ? -1 : 0;
}

/* The cookie of a Binding request of ICE; -1: the packet is something else. */
static __always_inline int read_ufrag(struct sk_reuseport_md *md, u32 *cookie)
{
	u32 head, magic, text, length = 0, i, at = STUN_HEADER;

	if (payload_word(md, 0, &head) || head >> 16 != STUN_BINDING_REQUEST)
		return -1;
	if (payload_word(md, STUN_COOKIE_AT, &magic) || magic != STUN_COOKIE)
		return -1;
#pragma clang loop unroll(disable)
	for (i = 0; i < STUN_ATTRIBUTES; i++) {
		if (bpf_skb_load_bytes(md, UDP_HEADER + at, &head, sizeof(head)))
			return -1;
		head = __builtin_bswap32(head);
		at += sizeof(head);
		length = head & 0xffff;
		if (head >> 16 == STUN_USERNAME)
			break;
		at += (length + 3) & ~3;
	}
	if (i == STUN_ATTRIBUTES || length < PARAMETER(offset) + UFRAG_DIGITS)
		return -1;
	if (bpf_skb_load_bytes(md, UDP_HEADER + at + PARAMETER(offset), &text, sizeof(text)))
		return -1;
	return hex_word(__builtin_bswap32(text), cookie);
}

/* Whether a cookie is one of a generation that has sockets. */
static __always_inline bool is_living(struct steering *s, u32 cookie)
{
	u32 slot_id = cookie & (GENERATION_SLOTS - 1);
	struct slot *slot = bpf_map_lookup_elem(s->slots, &slot_id);

	return slot && slot->live && make_cookie(slot_id, cookie >> 8) == cookie;
}

/* A peer's request came for another generation than the last one did. */
static __always_inline void delete_elsewhere(struct group *group, u32 slot, struct flow_key *peer)
{
	u64 others = group->table_mask & ~(1ULL << slot);
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < GENERATION_SLOTS - 1; i++) {
		void *table;
		u32 bit;

		if (!others)
			break;
		bit = lowest_bit(others);
		others &= others - 1;
		/* the compiler knows its range and would drop the mask that the verifier needs */
		OPAQUE(bit);
		table = flow_table(group, bit);
		if (table)
			bpf_map_delete_elem(table, peer);
	}
}

/*
 * A generation's table is made by the first request to it. A bit that another
 * processor's update of the mask has undone is back with the next request.
 */
static __always_inline int to_session(struct steering *s, u32 cookie, struct flow_key *peer)
{
	u32 slot = cookie & (GENERATION_SLOTS - 1);
	struct group *group = s->group;

	if (is_living(s, cookie)) {
		if (!flow_in(group, slot, peer))
			delete_elsewhere(group, slot, peer);
		ensure_table(group, CONST(GROUP), slot);
		if (group->table[slot] && !(group->table_mask & 1U << slot))
			group->table_mask |= 1U << slot;
	}
	return to_named(s, cookie); /* which notes the peer */
}

static __always_inline int dissect(struct steering *s)
{
	u32 working = s->group->working_slot[0] & (GENERATION_SLOTS - 1);
	struct remote remote = {};
	u64 now = bpf_jiffies64();
	struct flow *flow;
	u32 cookie, slot, stale;

	if (read_remote(s->md, &remote))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (!read_ufrag(s->md, &cookie))
		return to_session(s, cookie, &remote.key);
	flow = find_flow(s->group, working, &remote.key, now, &slot, &stale);
	if (!flow) {
		if (stale)
			s->counters->total[RX_FLOW_NEW_HAD_EXPIRED]++;
		return to_unseen(s);
	}
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	if (flow->last != now)
		flow->last = now;
	return to_existing(s, flow->array_entry, slot) ? to_new(s, 0) : SK_PASS;
}
