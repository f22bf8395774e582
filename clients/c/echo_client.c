// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * Send each line of standard input to an echo server and print its answers: one flow.
 *
 *     echo_client IP PORT
 *
 * Clients need nothing of udpgrm. Exits with 1 when an answer takes more than 5 s.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

int main(int argc, char **argv)
{
	struct sockaddr_in server = { .sin_family = AF_INET };
	struct timeval patience = { .tv_sec = 5 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char line[1024], answer[2048];

	if (argc != 3 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
		fprintf(stderr, "usage: echo_client IP PORT\n");
		return 2;
	}
	server.sin_port = htons((uint16_t)atoi(argv[2]));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&server, sizeof(server))) {
		perror("echo_client");
		return 1;
	}
	while (fgets(line, sizeof(line), stdin)) {
		ssize_t length = send(fd, line, strcspn(line, "\n"), 0);

		if (length >= 0)
			length = recv(fd, answer, sizeof(answer) - 1, 0);
		if (length < 0) {
			perror("echo_client");
			return 1;
		}
		answer[length] = '\0';
		puts(answer);
		fflush(stdout);
	}
	return 0;
}
