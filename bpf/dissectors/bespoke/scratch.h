/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * State that the programs which parse one Initial packet hand on to each other:
 * per CPU, and only from one tail call to the next (softirqs do not nest).
 */
#ifndef UDPGRM_BESPOKE_SCRATCH_H
#define UDPGRM_BESPOKE_SCRATCH_H

#include "kernel.h"
#include "crypto/aes128.h"
#include "crypto/sha256.h"

/* Indices of the array of programs. */
enum quic_stage { QUIC_KEYS, QUIC_DECRYPT, QUIC_NAME, QUIC_CHOOSE };

enum {
	QUIC_BYTES = 2048, /* of a payload and of a ClientHello that are looked at */
	KEY_STEPS = 14,
	KEY_BLOCKS = 16,
};

/*
 * One compression of the key derivation: onto the state in one block of
 * key_blocks, of the message in another, the result into a third. pad is added
 * to every byte of the message.
 */
struct key_step {
	u8 state;
	u8 message;
	u8 result;
	u8 pad;
};

/* Blocks by number: those that the C code itself fills or reads. */
enum key_block {
	BLOCK_DCID = 0,
	BLOCK_KEY = 1,
	BLOCK_IV = 2,
	BLOCK_HP = 3,
};

/* Tables that udpgrm/build/quic_tables.py computes. */
struct quic_tables {
	struct crypto_tables crypto;
	struct key_step step[KEY_STEPS];
	u32 key_blocks[KEY_BLOCKS][SHA256_BLOCK_WORDS]; /* before the first step */
	u8 zeroes[QUIC_BYTES];
	u8 ones[QUIC_BYTES];
};

/* An index that is below QUIC_BYTES. */
static __always_inline u32 quic_index(u32 index)
{
	OPAQUE(index);
	return index & (QUIC_BYTES - 1);
}

struct quic_scratch {
	/* of the packet, from the group's program */
	u32 group_id;
	u32 epoch;
	u32 is_garbled; /* cannot be decrypted, or what came out are no frames */
	u32 app;	/* of the name that was found, else 0 */
	/* of its payload: offset in UDP's payload, bytes, and as many as there is room for */
	u32 start;
	u32 length;
	volatile u32 there;
	u32 counter[4]; /* of AES-CTR, its last word aside: the nonce */
	u32 number;
	u32 sample[4]; /* follows the number, as in the packet */
	u32 dcid[8];
	u32 schedule[SHA256_BLOCK_WORDS];
	struct aes128 key;
	/*
	 * Progress in the frames: bytes read, and numbers still to be skipped. Read again
	 * each time (volatile), so that the verifier finds the same in registers
	 * whichever way it came.
	 */
	volatile u32 position;
	volatile u32 skip;
	u32 key_blocks[KEY_BLOCKS][SHA256_BLOCK_WORDS];
	/* twice as long, so that a copy of any length fits at any offset */
	u8 payload[2 * QUIC_BYTES];
	u8 hello[2 * QUIC_BYTES];      /* the CRYPTO stream from its beginning */
	u8 is_present[2 * QUIC_BYTES]; /* which of its bytes came */
};

_Static_assert(sizeof(struct quic_tables) == 4352 + 56 + 1024 + 4096, "quic_tables");
_Static_assert(sizeof(struct quic_scratch) == 160 + 176 + 8 + 1024 + 12288, "quic_scratch");

#endif
