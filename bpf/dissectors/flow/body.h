/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow: a packet belongs to the socket that last sent to its source address
 * and port. One table lookup when nothing drains.
 */

enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd, IP_SOURCE = 12, IPV6_SOURCE = 8 };

static __always_inline int read_flow_key(struct sk_reuseport_md *md, struct flow_key *key)
{
	u16 *udp = md->data;

	if ((void *)(udp + 1) > md->data_end)
		return -1;
	key->port = udp[0];
	if (md->eth_protocol == htons(ETH_P_IP)) {
		key->addr[2] = V4_MAPPED;
		return bpf_skb_load_bytes_relative(md, IP_SOURCE, &key->addr[3], 4,
						   BPF_HDR_START_NET);
	}
	return bpf_skb_load_bytes_relative(md, IPV6_SOURCE, key->addr, 16, BPF_HDR_START_NET);
}

static __always_inline int dissect(struct steering *s)
{
	struct flow_key key = {};
	struct flow *flow;
	bool stale;
	u32 slot;

	if (read_flow_key(s->md, &key))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	flow = find_flow(s->group, s->group->working_slot[0] & (GENERATION_SLOTS - 1), &key,
			 bpf_jiffies64(), &slot, &stale);
	if (!flow) {
		s->counters->total[RX_FLOW_NEW_UNSEEN]++;
		if (stale)
			s->counters->total[RX_FLOW_NEW_HAD_EXPIRED]++;
		return to_new(s, 0);
	}
	if (flow->seat == SEAT_NONE) {
		/* made before the daemon had seated the socket that sent */
		u64 owner = flow->owner;
		struct seat_ref *ref = bpf_map_lookup_elem(MAP(SEATS), &owner);

		if (ref)
			flow->seat = ref->seat;
	}
	switch (to_existing(s, flow->seat, slot)) {
	case 0:
		return SK_PASS;
	case -ENOENT:
		if (flow->seat != SEAT_NONE)
			flow->flags |= FLOW_ORPHAN;
	}
	return to_new(s, 0);
}
