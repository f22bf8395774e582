// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/* An application as the reference's documentation has it: probe, register, poll, promote. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct socket_gen {
	uint32_t generation, index;
	uint16_t cookie, reserved;
};

int main(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(4433) };
	struct socket_gen gen = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1, tries;
	uint32_t working = 0, own;
	socklen_t len = 4;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, (void *)&at, sizeof(at)))
		return perror("bind"), 1;
	if (getsockopt(fd, IPPROTO_UDP, 200, &working, &len))
		return perror("probe"), 1;
	own = working + 6;
	if (setsockopt(fd, IPPROTO_UDP, 201, &own, sizeof(own)))
		return perror("register"), 1;
	for (tries = 0; tries < 1000; tries++) {
		len = sizeof(gen);
		if (getsockopt(fd, IPPROTO_UDP, 201, &gen, &len))
			return perror("poll"), 1;
		if (gen.index != UINT32_MAX)
			break;
		usleep(10000);
	}
	if (setsockopt(fd, IPPROTO_UDP, 200, &own, sizeof(own)))
		return perror("promote"), 1;
	len = 4;
	getsockopt(fd, IPPROTO_UDP, 200, &working, &len);
	printf("generation %u index %u cookie 0x%04x working %u\n", gen.generation, gen.index,
	       gen.cookie, working);
	return 0;
}
