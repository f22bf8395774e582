// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * functions.c as a program, to be compiled with sanitizers. Reads tables and a
 * dissector, then packets behind their lengths; writes of each its application
 * (-1: garbled), the CRYPTO stream, and which of its bytes came.
 */
#include "functions.c"

#include <stdio.h>
#include <stdlib.h>

static void take(void *to, size_t size)
{
	if (size && fread(to, size, 1, stdin) != 1)
		exit(2);
}

int main(void)
{
	static u8 contents[sizeof(tables)], names[sizeof(dissector)];
	static u8 payload[QUIC_BYTES], hello[QUIC_BYTES], is_present[QUIC_BYTES];
	u32 length, there, calls;

	take(contents, sizeof(contents));
	take(names, sizeof(names));
	test_prepare(contents, names);
	while (fread(&length, sizeof(length), 1, stdin) == 1) {
		/* of its size exactly, so that what is read beyond is seen */
		u8 *data = malloc(length);
		int app;

		take(data, length);
		app = test_initial(data, length, payload, &there, hello, is_present, &calls);
		free(data);
		fwrite(&app, sizeof(app), 1, stdout);
		fwrite(hello, sizeof(hello), 1, stdout);
		fwrite(is_present, sizeof(is_present), 1, stdout);
	}
	return 0;
}
