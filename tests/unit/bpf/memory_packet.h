// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/* A packet that is a piece of memory. */
#ifndef UDPGRM_TEST_MEMORY_PACKET_H
#define UDPGRM_TEST_MEMORY_PACKET_H

#include "types.h"

static const u8 *packet;
static u32 packet_length;

/* As the kernel does, it leaves zeros of what is not there. */
static long bpf_skb_load_bytes(void *ctx, u32 offset, void *to, u32 length)
{
	if (length > packet_length || offset > packet_length - length) {
		__builtin_memset(to, 0, length);
		return -14; /* EFAULT */
	}
	__builtin_memcpy(to, packet + offset, length);
	return 0;
}

#endif
