// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

// Runs what tests/kernel/registration/test_clients.py asks of each language.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"udpgrm"
)

var sockets []*net.UDPConn

func number(word string) int {
	value, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		panic(err)
	}
	return int(value)
}

func patience(word string) time.Duration {
	if word == "forever" {
		return math.MaxInt64
	}
	return time.Duration(number(word)) * time.Millisecond
}

func chosen(words []string) (found []*net.UDPConn) {
	for _, word := range words {
		found = append(found, sockets[number(word)])
	}
	return found
}

func describe(err error) string {
	kind := "other"
	switch {
	case errors.Is(err, udpgrm.ErrNotHooked):
		kind = "not_hooked"
	case errors.Is(err, os.ErrDeadlineExceeded):
		kind = "timed_out"
	case errors.Is(err, os.ErrExist):
		kind = "exists"
	case errors.Is(err, os.ErrPermission):
		kind = "permission"
	case errors.Is(err, syscall.EINVAL):
		kind = "invalid"
	}
	var errno syscall.Errno
	errors.As(err, &errno)
	return fmt.Sprintf("error %s %d", kind, int(errno))
}

func join(values []int) (text string) {
	for _, value := range values {
		text += " " + strconv.Itoa(value)
	}
	return text
}

// bind IP PORT COUNT flow SECONDS | noop | cbpf APPLICATIONS RESULT | named NAME PARAMETERS
func bind(words []string) (text string, err error) {
	dissector := udpgrm.Noop()
	switch words[3] {
	case "flow":
		var timeout time.Duration
		timeout, err = time.ParseDuration(words[4] + "s")
		dissector = udpgrm.Flow(timeout)
	case "cbpf":
		one := udpgrm.Instruction{Code: 0x06, K: uint32(number(words[5]))} // BPF_RET | BPF_K
		dissector, err = udpgrm.CBPF([]udpgrm.Instruction{one}, number(words[4]))
	case "named":
		dissector, err = udpgrm.Named(words[4], words[5])
	}
	if err != nil {
		return "", err
	}
	made, err := udpgrm.Bind(net.JoinHostPort(words[0], words[1]), number(words[2]), dissector)
	for _, conn := range made {
		text += " " + strconv.Itoa(len(sockets))
		sockets = append(sockets, conn)
	}
	return text, err
}

// plain IP PORT: a socket without SO_REUSEPORT
func plain(words []string) (string, error) {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(words[0], words[1]))
	if err != nil {
		return "", err
	}
	sockets = append(sockets, conn.(*net.UDPConn))
	return " " + strconv.Itoa(len(sockets)-1), nil
}

func generationOf(socket *net.UDPConn) (string, error) {
	value, err := udpgrm.GenerationOf(socket)
	index := strconv.Itoa(value.Index)
	if value.Index < 0 {
		index = "none"
	}
	return fmt.Sprintf(" %d %s %d", value.Generation, index, value.Cookie), err
}

func workingGeneration(socket *net.UDPConn) (string, error) {
	generation, found, err := udpgrm.WorkingGeneration(socket)
	if !found {
		return " none", err
	}
	return fmt.Sprintf(" %d", generation), err
}

func call(words []string) (string, error) {
	arguments := words[1:]
	switch words[0] {
	case "probe":
		found, err := udpgrm.Probe()
		return map[bool]string{true: " yes", false: " no"}[found], err
	case "bind":
		return bind(arguments)
	case "plain":
		return plain(arguments)
	case "enroll":
		generation := uint32(number(arguments[0]))
		indices, err := udpgrm.Enroll(chosen(arguments[2:]), generation, patience(arguments[1]))
		return join(indices), err
	case "wait_registered":
		indices, err := udpgrm.WaitRegistered(chosen(arguments[1:]), patience(arguments[0]))
		return join(indices), err
	case "promote":
		return "", udpgrm.Promote(sockets[number(arguments[0])], uint32(number(arguments[1])))
	case "working_generation":
		return workingGeneration(sockets[number(arguments[0])])
	case "socket_generation":
		return generationOf(sockets[number(arguments[0])])
	case "assure_flow":
		peer := netip.AddrPortFrom(netip.MustParseAddr(arguments[1]), uint16(number(arguments[2])))
		return "", udpgrm.AssureFlow(sockets[number(arguments[0])], peer)
	case "close":
		return "", sockets[number(arguments[0])].Close()
	}
	return "", errors.New("unknown call")
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		text, err := call(strings.Fields(input.Text()))
		if err != nil {
			fmt.Println(describe(err))
		} else {
			fmt.Println("ok" + text)
		}
	}
}
