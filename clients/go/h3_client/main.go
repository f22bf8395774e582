// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//go:build quic

// Ask an HTTP/3 server for each path on standard input and print its answers: one connection.
//
//	h3_client IP PORT
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lucas-clemente/quic-go/http3"
)

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: h3_client IP PORT")
	}
	// the example's server has a certificate of its own making
	connection := &http3.RoundTripper{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer connection.Close()
	client := http.Client{Transport: connection, Timeout: 10 * time.Second}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		url := "https://" + net.JoinHostPort(os.Args[1], os.Args[2]) + input.Text()
		answer, err := client.Get(url)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		fmt.Println(string(body))
	}
	return input.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "h3_client:", err)
		os.Exit(1)
	}
}
