// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
#include "account.h"
#include "packet.h"
#include "dissectors/radius/key.h"
#include "dissectors/sip/key.h"

enum { IPV6_NEXT = 6, IPV6_HEADER = 40, ENDED_S = 32 };

/* Where the payload of an IP packet of UDP begins; 0: it is another one. */
static __always_inline u32 payload_of(struct __sk_buff *skb)
{
	u8 head[IPV6_NEXT + 2];
	u64 is_six, is_other, header;

	if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return 0;
	/* without branches: the search that follows would be followed for either protocol */
	is_six = hidden(head[0] >> 5 & 1);
	is_other = is_six & (is_zero(head[IPV6_NEXT] ^ IPPROTO_UDP) ^ 1);
	header = ((head[0] & 0xf) * 4 & (is_six - 1)) | (IPV6_HEADER & -is_six);
	return (header + UDP_HEADER) & (is_other - 1);
}

/* The key of what a group's socket sends; -1: it makes no flow. *ends: it is the flow's last one.
 */
static __always_inline int key_of(struct __sk_buff *skb, u32 keyed_by, struct flow_key *key,
				  u64 *ends)
{
	u32 at = payload_of(skb), end = skb->len;

	*ends = 0;
	if (!at)
		return -1;
	switch (keyed_by) {
	case KEYED_BY_CALL_ID:
		return sip_key(skb, at, end, key, ends);
	case KEYED_BY_STATE:
		return radius_key(skb, at, end, RADIUS_ACCESS_CHALLENGE, key);
	}
	return -1;
}

/*
 * Have a flow expire as soon as no retransmission can come (RFC 3261, 17.2.2: timer J, 64
 * times T1), where its timeout is longer.
 */
static __always_inline void end_flow(const struct sender *sender, u32 slot, struct flow_key *key)
{
	s64 sooner = sender->group->timeout_jiffies - ENDED_S * CONST(HZ);
	struct flow *flow = flow_in(sender->group, slot, key);

	if (sooner > 0 && flow && flow->owner == sender->owner)
		flow->last -= sooner;
}

/*
 * egress: a packet makes or refreshes the flow that its content names, as sendmsg4 and sendmsg6 do
 * that of its peer. Attached while a group has such a dissector. Allows every packet; of sockets
 * that are in no group it costs one storage lookup for UDP.
 */
int hook_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct sender sender = {};
	struct counters *counters;
	struct remote remote = {}; /* no peer's, but a key as long */
	u64 ends;
	u32 slot;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->protocol != IPPROTO_UDP || find_sender(sk, &sender))
		return 1;
	if (!sender.group->keyed_by)
		return 1;
	/* or the search is followed for either way that the sender may be found */
	sender.slot ^= unknown_zero(sender.owner);
	sender.array_entry ^= unknown_zero(sender.owner);
	counters = counters_of(sender.group_id);
	if (!counters || key_of(skb, sender.group->keyed_by, &remote.key, &ends))
		return 1;
	/* or the compiler drops masks of it that the verifier needs */
	slot = hidden(flow_slot(&sender));
	account_flow(&sender, slot, &remote.key, counters);
	if (ends)
		end_flow(&sender, slot, &remote.key);
	return 1;
}
