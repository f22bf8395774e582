/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Constants of the ciphers. They live in a map, because a program cannot index
 * a static array; udpgrm/build/quic_tables.py computes them.
 */
#ifndef UDPGRM_CRYPTO_TABLES_H
#define UDPGRM_CRYPTO_TABLES_H

struct crypto_tables {
	/* MixColumns(SubBytes(x)) for x in each of a column's rows: FIPS 197, 5.1. */
	u32 aes[256][4];
	u32 sha256[64]; /* K of FIPS 180-4, 4.2.2 */
};

#endif
