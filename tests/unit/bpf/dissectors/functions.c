// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * Functions of bpf/crypto and of the stun dissector for this machine: the
 * headers are included as they are; a packet is a piece of memory, whose
 * linear part ends where a test says.
 */
#include <stdbool.h>
#include <stddef.h>
#include "types.h"

static const u8 *packet, *packet_end;
static u64 parameter;

static u64 bpf_pseudo_fd(u64 kind, u64 number)
{
	return parameter;
}

static long bpf_skb_load_bytes(void *ctx, u32 offset, void *to, u32 length)
{
	if (length > packet_end - packet || offset > packet_end - packet - length)
		return -14; /* EFAULT */
	__builtin_memcpy(to, packet + offset, length);
	return 0;
}

#include "unused.h"

#define PARAMETER(name) parameter
#include "crypto/aes128_decrypt.h"
#include "dissectors/stun/body.h"

/* What tests call. */

void test_decrypt(const u64 *keys, struct aes_block *block)
{
#define KEY(i) keys[i]
	AES128_DECRYPT(block, KEY);
}

u32 test_hex_digit(u32 character)
{
	return hex_digit(character);
}

/* The cookie in a UDP packet's payload, -1 when there is none. */
int test_ufrag(const u8 *payload, u32 length, u32 linear, u32 offset)
{
	u8 buffer[UDP_HEADER + 2048] = {};
	struct sk_reuseport_md md = {};
	u32 cookie;

	__builtin_memcpy(buffer + UDP_HEADER, payload, length);
	packet = buffer;
	packet_end = buffer + UDP_HEADER + length;
	parameter = offset;
	md.data = buffer;
	md.data_end = buffer + UDP_HEADER + linear;
	return read_ufrag(&md, &cookie) ? -1 : (int)cookie;
}
