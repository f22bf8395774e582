// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

// Send each line of standard input to an echo server and print its answers: one flow.
//
//	echo_client IP PORT
//
// Clients need nothing of udpgrm. Exits with 1 when an answer takes more than 5 s.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"time"
)

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: echo_client IP PORT")
	}
	conn, err := net.Dial("udp", net.JoinHostPort(os.Args[1], os.Args[2]))
	if err != nil {
		return err
	}
	defer conn.Close()
	input := bufio.NewScanner(os.Stdin)
	answer := make([]byte, 2048)
	for input.Scan() {
		if _, err := conn.Write(input.Bytes()); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		length, err := conn.Read(answer)
		if err != nil {
			return err
		}
		fmt.Println(string(answer[:length]))
	}
	return input.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echo_client:", err)
		os.Exit(1)
	}
}
