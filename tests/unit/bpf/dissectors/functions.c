// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * Functions of bpf/crypto and of the stun dissector for this machine: the
 * headers are included as they are; a packet is a piece of memory, whose
 * linear part ends where a test says.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

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

#define UNUSED(type, name, ...)       \
	static type name(__VA_ARGS__) \
	{                             \
		__builtin_trap();     \
	}
UNUSED(u64, bpf_jiffies64, void)
UNUSED(u64, bpf_get_netns_cookie, void *ctx)
UNUSED(u64, bpf_get_current_uid_gid, void)
UNUSED(void *, bpf_map_lookup_elem, void *map, const void *key)
UNUSED(long, bpf_map_update_elem, void *map, const void *key, const void *value, u64 flags)
UNUSED(long, bpf_map_delete_elem, void *map, const void *key)
UNUSED(long, bpf_map_pop_elem, void *map, void *value)
UNUSED(long, bpf_map_push_elem, void *map, const void *value, u64 flags)
UNUSED(void *, bpf_sk_storage_get, void *map, void *sk, void *value, u64 flags)
UNUSED(long, bpf_sk_select_reuseport, void *ctx, void *map, void *key, u64 flags)
UNUSED(long, bpf_skb_load_bytes_relative, void *ctx, u32 offset, void *to, u32 length, u32 start)

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
