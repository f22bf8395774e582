/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * AES-128 decryption of one block (FIPS 197, 5.3.5, the equivalent inverse
 * cipher). Round keys come from udpgrm/dissectors/aes.py. Needs no map: the inverse
 * S-box is put on the stack (256 bytes), and InvMixColumns is arithmetic on
 * words of two columns. Words are little-endian: the byte of row r of a column
 * is bits 8r to 8r + 7.
 */
#ifndef UDPGRM_AES128_DECRYPT_H
#define UDPGRM_AES128_DECRYPT_H

struct aes_block {
	u64 word[2];
};

#define AES_LOW_BITS 0x0101010101010101ULL

/* Every byte times x. */
static __always_inline u64 aes_double(u64 a)
{
	u64 high = a >> 7 & AES_LOW_BITS;

	return (a & ~(AES_LOW_BITS << 7)) << 1 ^ high * 0x1b;
}

/* Each column so that its row r is what was row r + 1, or r + 2. */
static __always_inline u64 aes_up_1(u64 a)
{
	return (a >> 8 & 0x00ffffff00ffffffULL) | (a << 24 & 0xff000000ff000000ULL);
}

static __always_inline u64 aes_up_2(u64 a)
{
	return (a >> 16 & 0x0000ffff0000ffffULL) | (a << 16 & 0xffff0000ffff0000ULL);
}

/* InvMixColumns is MixColumns of a + 4 * (a + a two rows up). */
static __always_inline u64 aes_inverse_mix(u64 a)
{
	u64 twice;

	a ^= aes_double(aes_double(a ^ aes_up_2(a)));
	twice = aes_double(a);
	return twice ^ aes_up_1(twice ^ a) ^ aes_up_2(a ^ aes_up_1(a));
}

/* InvShiftRows and InvSubBytes for one column, out of itself and those to its left. */
static __always_inline u64 aes_inverse_column(const u8 *box, u32 c0, u32 c1, u32 c2, u32 c3)
{
	return box[c0 & 0xff] | (u64)box[c1 >> 8 & 0xff] << 8 | (u64)box[c2 >> 16 & 0xff] << 16 |
	       (u64)box[c3 >> 24] << 24;
}

static __always_inline void aes_inverse_rows(const u8 *box, struct aes_block *block)
{
	u32 c0 = block->word[0], c1 = block->word[0] >> 32;
	u32 c2 = block->word[1], c3 = block->word[1] >> 32;

	block->word[0] = aes_inverse_column(box, c0, c3, c2, c1) |
			 aes_inverse_column(box, c1, c0, c3, c2) << 32;
	block->word[1] = aes_inverse_column(box, c2, c1, c0, c3) |
			 aes_inverse_column(box, c3, c2, c1, c0) << 32;
}

static __always_inline void aes_add_key(struct aes_block *block, u64 low, u64 high)
{
	block->word[0] ^= low;
	block->word[1] ^= high;
}

static __always_inline void aes_inverse_round(const u8 *box, struct aes_block *block, u64 low,
					      u64 high)
{
	aes_inverse_rows(box, block);
	block->word[0] = aes_inverse_mix(block->word[0]);
	block->word[1] = aes_inverse_mix(block->word[1]);
	aes_add_key(block, low, high);
}

/* Word by word: an initializer would be a section of constants, which bcc does not load. */
static __always_inline void aes_inverse_box(u64 *box)
{
	box[0] = 0x38a53630d56a0952ULL;
	box[1] = 0xfbd7f3819ea340bfULL;
	box[2] = 0x87ff2f9b8239e37cULL;
	box[3] = 0xcbe9dec444438e34ULL;
	box[4] = 0x3d23c2a632947b54ULL;
	box[5] = 0x4ec3fa420b954ceeULL;
	box[6] = 0xb224d92866a12e08ULL;
	box[7] = 0x25d18b6d49a25b76ULL;
	box[8] = 0x1698688664f6f872ULL;
	box[9] = 0x92b6655dcc5ca4d4ULL;
	box[10] = 0xdab9edfd5048706cULL;
	box[11] = 0x849d8da75746155eULL;
	box[12] = 0x0ad3bc8c00abd890ULL;
	box[13] = 0x0645b3b80558e4f7ULL;
	box[14] = 0x020f3fca8f1e2cd0ULL;
	box[15] = 0x6b8a130103bdafc1ULL;
	box[16] = 0xeadc674f4111913aULL;
	box[17] = 0x73e6b4f0cecff297ULL;
	box[18] = 0x8535ade72274ac96ULL;
	box[19] = 0x6edf751ce837f9e2ULL;
	box[20] = 0x89c5291d711af147ULL;
	box[21] = 0x1bbe18aa0e62b76fULL;
	box[22] = 0x2079d2c64b3e56fcULL;
	box[23] = 0xf45acd78fec0db9aULL;
	box[24] = 0x31c7078833a8dd1fULL;
	box[25] = 0x5fec8027591012b1ULL;
	box[26] = 0x0d4ab519a97f5160ULL;
	box[27] = 0xef9cc9939f7ae52dULL;
	box[28] = 0xb0f52aae4d3be0a0ULL;
	box[29] = 0x619953833cbbebc8ULL;
	box[30] = 0x26d677ba7e042b17ULL;
	box[31] = 0x7d0c2155631469e1ULL;
}

/*
 * key(i) is word i of the round keys, i a literal: it may be a reference that
 * is bound when the program is linked.
 */
#define AES128_DECRYPT(block, key)                                               \
	do {                                                                     \
		u64 aes_box[32];                                                 \
                                                                                 \
		aes_inverse_box(aes_box);                                        \
		aes_add_key(block, key(0), key(1));                              \
		aes_inverse_round((const u8 *)aes_box, block, key(2), key(3));   \
		aes_inverse_round((const u8 *)aes_box, block, key(4), key(5));   \
		aes_inverse_round((const u8 *)aes_box, block, key(6), key(7));   \
		aes_inverse_round((const u8 *)aes_box, block, key(8), key(9));   \
		aes_inverse_round((const u8 *)aes_box, block, key(10), key(11)); \
		aes_inverse_round((const u8 *)aes_box, block, key(12), key(13)); \
		aes_inverse_round((const u8 *)aes_box, block, key(14), key(15)); \
		aes_inverse_round((const u8 *)aes_box, block, key(16), key(17)); \
		aes_inverse_round((const u8 *)aes_box, block, key(18), key(19)); \
		aes_inverse_rows((const u8 *)aes_box, block);                    \
		aes_add_key(block, key(20), key(21));                            \
	} while (0)

#endif
