// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * A UDP echo server that can be restarted without losing a packet.
 *
 *     echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]
 *
 * An answer is `GENERATION PID ` and the payload. On SIGTERM the server drains: it answers the
 * flows that it has and exits when none has sent for the flow timeout. Without `promote` something
 * else makes its generation the working one, such as `udpgrm restart`.
 */
#define _GNU_SOURCE /* ppoll() */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "udpgrm.h"

static volatile sig_atomic_t is_draining;

static void drain(int number)
{
	(void)number;
	is_draining = 1;
}

/* Tell systemd that all sockets are enrolled; without systemd do nothing. */
static void notify_ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd;

	if (!path || !*path || strlen(path) >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, strlen(path));
	if (*path == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&to,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(fd);
}

/* Answer a datagram, if there is one. */
static void answer(int fd, const char *prefix)
{
	char data[65536 + 64];
	size_t length = strlen(prefix);
	struct sockaddr_storage peer;
	socklen_t peer_length = sizeof(peer);
	ssize_t got;

	memcpy(data, prefix, length);
	got = recvfrom(fd, data + length, 65536, MSG_DONTWAIT, (struct sockaddr *)&peer,
		       &peer_length);
	if (got < 0)
		return; /* also an ICMP error of an earlier answer */
	if (sendto(fd, data, length + (size_t)got, 0, (struct sockaddr *)&peer, peer_length) < 0)
		perror("no answer");
}

static void serve(int fd, const char *prefix, int flow_timeout_s)
{
	struct sigaction on_term = { .sa_handler = drain };
	sigset_t blocked, before;

	/* SIGTERM comes only while ppoll() waits, so none is missed */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	sigaction(SIGTERM, &on_term, NULL);
	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLIN };
		struct timespec idle = { .tv_sec = flow_timeout_s };
		int count = ppoll(&ready, 1, is_draining ? &idle : NULL, &before);

		if (count > 0)
			answer(fd, prefix);
		else if (!count)
			return;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct udpgrm_dissector flow;
	uint32_t generation;
	char prefix[64];
	int fd;

	if (argc < 5 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
		fprintf(stderr, "usage: echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]\n");
		return 2;
	}
	address.sin_port = htons((uint16_t)atoi(argv[2]));
	generation = (uint32_t)strtoul(argv[3], NULL, 10);
	flow = udpgrm_flow((uint32_t)atoi(argv[4]));
	if (udpgrm_bind((struct sockaddr *)&address, sizeof(address), &flow, &fd, 1) ||
	    udpgrm_enroll(&fd, 1, generation, NULL, 5000) ||
	    (argc > 5 && udpgrm_promote(fd, generation))) {
		fprintf(stderr, "echo_server: %s%s\n", strerror(errno),
			udpgrm_is_not_hooked(errno) ? " (no udpgrm hooks, see udpgrm doctor)" : "");
		return 1;
	}
	snprintf(prefix, sizeof(prefix), "%u %d ", generation, getpid());
	notify_ready();
	serve(fd, prefix, atoi(argv[4]));
	return 0;
}
