// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

// A UDP echo server that can be restarted without losing a packet.
//
//	echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]
//
// An answer is `GENERATION PID ` and the payload. On SIGTERM the server drains: it answers the flows
// that it has and exits when none has sent for the flow timeout. Without `promote` something else
// makes its generation the working one, such as `udpgrm restart`.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"udpgrm"
)

// notifyReady tells systemd that all sockets are enrolled; without systemd it does nothing.
func notifyReady() {
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		if conn, err := net.Dial("unixgram", path); err == nil {
			fmt.Fprint(conn, "READY=1")
			conn.Close()
		}
	}
}

// serve answers datagrams until a drain has ended.
func serve(conn *net.UDPConn, prefix string, flowTimeout time.Duration) error {
	var draining atomic.Bool
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		draining.Store(true)
		conn.SetReadDeadline(time.Now().Add(flowTimeout))
	}()
	data := make([]byte, 65536)
	for {
		length, peer, err := conn.ReadFromUDPAddrPort(data)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return conn.Close()
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // an ICMP error of an earlier answer
			continue
		}
		if draining.Load() {
			conn.SetReadDeadline(time.Now().Add(flowTimeout))
		}
		answer := append([]byte(prefix), data[:length]...)
		if _, err := conn.WriteToUDPAddrPort(answer, peer); err != nil {
			fmt.Fprintln(os.Stderr, "no answer:", err)
		}
	}
}

func run() error {
	if len(os.Args) < 5 {
		return errors.New("usage: echo_server IP PORT GENERATION FLOW_TIMEOUT_S [promote]")
	}
	generation, err := strconv.ParseUint(os.Args[3], 10, 32)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseUint(os.Args[4], 10, 31)
	if err != nil {
		return err
	}
	flowTimeout := time.Duration(seconds) * time.Second
	sockets, err := udpgrm.Bind(net.JoinHostPort(os.Args[1], os.Args[2]), 1, udpgrm.Flow(flowTimeout))
	if err != nil {
		return err
	}
	if _, err := udpgrm.Enroll(sockets, uint32(generation), 5*time.Second); err != nil {
		return err
	}
	if len(os.Args) > 5 {
		if err := udpgrm.Promote(sockets[0], uint32(generation)); err != nil {
			return err
		}
	}
	notifyReady()
	return serve(sockets[0], fmt.Sprintf("%d %d ", generation, os.Getpid()), flowTimeout)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "echo_server:", err)
		os.Exit(1)
	}
}
