/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The source of a packet, and big-endian loads from its UDP payload, -1 when
 * they pass its end. From the packet itself while they lie in its linear part,
 * else by helper.
 */
#ifndef UDPGRM_PACKET_H
#define UDPGRM_PACKET_H

#include "kernel.h"

enum { UDP_HEADER = 8, MAX_OFFSET = 0xffff };

#define DEFINE_LOAD(name, type, swap)                                                       \
	static __always_inline int name(struct sk_reuseport_md *md, u32 offset, u32 *value) \
	{                                                                                   \
		type *at, loaded;                                                           \
                                                                                            \
		if (offset > MAX_OFFSET)                                                    \
			return -1;                                                          \
		at = md->data + UDP_HEADER + offset;                                        \
		if ((void *)(at + 1) <= md->data_end) {                                     \
			*value = swap(*at);                                                 \
			return 0;                                                           \
		}                                                                           \
		if (bpf_skb_load_bytes(md, UDP_HEADER + offset, &loaded, sizeof(loaded)))   \
			return -1;                                                          \
		*value = swap(loaded);                                                      \
		return 0;                                                                   \
	}

enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd, IP_SOURCE = 12, IPV6_SOURCE = 8 };

/* A key on the stack and what fills its last 8 bytes: see array_key(). */
struct remote {
	struct flow_key key;
	u32 fill;
};

/* A packet's source address and port; -1 when it is too short. */
static __always_inline int read_remote(struct sk_reuseport_md *md, struct remote *remote)
{
	struct flow_key *key = &remote->key;
	u16 *udp = md->data;

	WRITE_WHOLE(*remote);
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

#define AS_IT_IS(x) (x)
DEFINE_LOAD(payload_byte, u8, AS_IT_IS)
DEFINE_LOAD(payload_half, u16, htons)
DEFINE_LOAD(payload_word, u32, __builtin_bswap32)

#endif
