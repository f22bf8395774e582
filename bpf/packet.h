/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Big-endian loads from a packet's UDP payload, -1 when they pass its end.
 * From the packet itself while they lie in its linear part, else by helper.
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

#define AS_IT_IS(x) (x)
DEFINE_LOAD(payload_byte, u8, AS_IT_IS)
DEFINE_LOAD(payload_half, u16, htons)
DEFINE_LOAD(payload_word, u32, __builtin_bswap32)

#endif
