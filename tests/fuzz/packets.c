// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * What the dissectors read of packets, as a program to be compiled with
 * sanitizers. Reads packets behind their lengths, 4 bytes each, and gives each
 * to every dissector with several parameters. A packet's linear part and the
 * whole packet are memory of exactly their sizes, so that what is read beyond
 * is seen. Aborts if an answer depends on how much of the packet is linear.
 * Prints how many packets named a socket, by dissector.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include "memory_packet.h"

static u64 bpf_pseudo_fd(u64 kind, u64 number)
{
	return number;
}

#include "unused.h"

#include "steering.h"

/* Instead of dissectors/results.h: what a dissector says, and nothing is steered. */
#define UDPGRM_RESULTS_H
enum { UNSEEN = -1, UNREAD = -2 };
#define to_unseen(s) UNSEEN
#define to_named(s, cookie) ((int)(cookie))
#define pass_unread(s, reason) UNREAD

/* One set of parameters; those of dissectors have the same names. */
struct parameters {
	u64 offset, cid_length, shift;
	u64 config_rotation, server_id_length, nonce_length, self_encoded_length, key[21];
};

static const struct parameters *parameters;
#define PARAMETER_WORD(name, i) (parameters->key[i])
#define PARAMETER(name) PARAMETER_OF_##name
#define PARAMETER_OF_offset (parameters->offset)
#define PARAMETER_OF_cid_length (parameters->cid_length)
#define PARAMETER_OF_shift (parameters->shift)
#define PARAMETER_OF_config_rotation (parameters->config_rotation)
#define PARAMETER_OF_server_id_length (parameters->server_id_length)
#define PARAMETER_OF_nonce_length (parameters->nonce_length)
#define PARAMETER_OF_self_encoded_length (parameters->self_encoded_length)
#define PARAMETER_OF_key (parameters->key[0])

#define dissect dissect_quic
#include "dissectors/quic/body.h"
#undef dissect
#define dissect dissect_quic_lb
#include "dissectors/quic_lb/body.h"
#undef dissect
#define dissect dissect_dtls_cid
#include "dissectors/dtls_cid/body.h"
#undef dissect
#define dissect dissect_wireguard
#include "dissectors/wireguard/body.h"
#undef dissect
#define dissect dissect_stun
#include "dissectors/stun/body.h"
#undef dissect
#include "dissectors/radius/key.h"
#include "dissectors/sip/key.h"

/* Of stun only what it reads from the packet: the rest is state. */
static int read_stun(struct steering *s)
{
	u32 cookie;

	return read_ufrag(s->md, &cookie) ? UNREAD : (int)cookie;
}

/* Of those whose flows have keys, part of the key. */
static int read_radius(struct steering *s)
{
	struct flow_key key;

	if (radius_key(s->md, UDP_HEADER, packet_length, RADIUS_ACCESS_REQUEST, &key))
		return UNREAD;
	return key.addr[0] & 0xffff;
}

static int read_sip(struct steering *s)
{
	struct flow_key key;
	u64 ends;

	if (sip_key(s->md, UDP_HEADER, packet_length, &key, &ends))
		return UNREAD;
	return key.addr[0] & 0xffff;
}

static const struct {
	const char *name;
	int (*read)(struct steering *s);
} dissectors[] = {
	{ "quic", dissect_quic },
	{ "quic_lb", dissect_quic_lb },
	{ "dtls_cid", dissect_dtls_cid },
	{ "wireguard", dissect_wireguard },
	{ "stun", read_stun },
	{ "radius", read_radius },
	{ "sip", read_sip },
};
enum { DISSECTORS = sizeof(dissectors) / sizeof(*dissectors) };

/* The least and the most that a schema allows, and something between, encrypted. */
static const struct parameters all[] = {
	{ .cid_length = 2, .server_id_length = 2, .nonce_length = 4 },
	{ .offset = 2,
	  .cid_length = 8,
	  .shift = 8,
	  .server_id_length = 7,
	  .nonce_length = 9,
	  .self_encoded_length = 1,
	  .key = { 1, 2, 3 } },
	{ .offset = 18,
	  .cid_length = 20,
	  .shift = 16,
	  .config_rotation = 6,
	  .server_id_length = 15,
	  .nonce_length = 4 },
	{ .offset = 252, .cid_length = 255, .server_id_length = 15, .nonce_length = 17 },
};
enum { PARAMETERS = sizeof(all) / sizeof(*all) };

static u64 named[DISSECTORS];

static int answer(int (*read)(struct steering *s), u32 linear)
{
	u8 *part = malloc(linear);
	struct sk_reuseport_md md = {};
	struct steering s = { .md = &md };
	int found;

	__builtin_memcpy(part, packet, linear);
	md.data = part;
	md.data_end = part + linear;
	found = read(&s);
	free(part);
	return found;
}

static void try_all(void)
{
	/* the kernel gives a program a UDP header at least */
	u32 linear[] = { UDP_HEADER, (packet_length + UDP_HEADER) / 2, packet_length };
	u32 i, j, k;

	for (i = 0; i < DISSECTORS; i++) {
		for (j = 0; j < PARAMETERS; j++) {
			int first;

			parameters = &all[j];
			first = answer(dissectors[i].read, linear[0]);
			for (k = 1; k < sizeof(linear) / sizeof(*linear); k++) {
				if (answer(dissectors[i].read, linear[k]) != first) {
					fprintf(stderr, "%s: linear part\n", dissectors[i].name);
					abort();
				}
			}
			if (first > 0xffff || first < UNREAD) {
				fprintf(stderr, "%s: cookie 0x%x\n", dissectors[i].name, first);
				abort();
			}
			named[i] += first >= 0;
		}
	}
}

int main(void)
{
	u32 length, i;

	while (fread(&length, sizeof(length), 1, stdin) == 1) {
		u8 *whole = malloc(UDP_HEADER + length);

		__builtin_memset(whole, 0, UDP_HEADER);
		if (length && fread(whole + UDP_HEADER, length, 1, stdin) != 1)
			return 2;
		packet = whole;
		packet_length = UDP_HEADER + length;
		try_all();
		free(whole);
	}
	for (i = 0; i < DISSECTORS; i++)
		printf("%s %llu\n", dissectors[i].name, (unsigned long long)named[i]);
	return 0;
}
