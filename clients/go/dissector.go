// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

package udpgrm

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"
)

// Types and sizes of struct dissector.
const (
	typeCBPF      = 1
	typeNoop      = 4
	typeNamed     = 16
	headSize      = 116
	nameSize      = 32
	dissectorSize = 632
	maxFilter     = 64
)

// Dissector is how a group's packets find their sockets: Flow, Noop, CBPF or Named.
type Dissector struct {
	kind, flowTimeout, apps uint32
	rest                    []byte
	invalid                 error
}

// Instruction is one of a classic BPF filter.
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Flow keeps flows by peer. A timeout of 0 means 125 s; Bind and SetDissector refuse one that is
// not of whole seconds.
func Flow(timeout time.Duration) Dissector {
	seconds := timeout / time.Second
	if timeout%time.Second != 0 || seconds < 0 || seconds > math.MaxUint32 {
		return Dissector{invalid: fmt.Errorf("flow timeout %v is not of whole seconds: %w", timeout, syscall.EINVAL)}
	}
	return Dissector{flowTimeout: uint32(seconds)}
}

// Noop takes every packet for a new flow.
func Noop() Dissector {
	return Dissector{kind: typeNoop}
}

// CBPF finds the udpgrm cookie with a filter, and gives new flows to up to four applications.
func CBPF(filter []Instruction, apps int) (Dissector, error) {
	if len(filter) == 0 || len(filter) > maxFilter || apps < 0 || apps > 4 {
		return Dissector{}, fmt.Errorf("%d instructions, %d applications: %w", len(filter), apps, syscall.EINVAL)
	}
	rest := native.AppendUint32(nil, uint32(len(filter)))
	for _, one := range filter {
		rest = append(native.AppendUint16(rest, one.Code), one.Jt, one.Jf)
		rest = native.AppendUint32(rest, one.K)
	}
	return Dissector{kind: typeCBPF, apps: uint32(apps), rest: rest}, nil
}

// Named is a dissector of the library, such as "quic" with `{"cid_length": 8}`. All sockets of a
// group need the same text.
func Named(name, parameters string) (Dissector, error) {
	if name == "" || len(name) >= nameSize || headSize+nameSize+len(parameters) >= dissectorSize {
		return Dissector{}, fmt.Errorf("%q %s: too long, or no name: %w", name, parameters, syscall.EINVAL)
	}
	rest := make([]byte, nameSize, dissectorSize-headSize)
	copy(rest, name)
	return Dissector{kind: typeNamed, rest: append(rest, parameters...)}, nil
}

// SetDissector sets the dissector of a socket's group, once. EPERM: the group has another one.
func SetDissector(socket syscall.Conn, dissector Dissector) error {
	if dissector.invalid != nil {
		return dissector.invalid
	}
	value := make([]byte, dissectorSize)
	native.PutUint32(value, dissector.kind)
	native.PutUint32(value[4:], dissector.flowTimeout)
	native.PutUint32(value[8:], dissector.apps)
	copy(value[headSize:], dissector.rest)
	err := set(socket, optionDissector, value)
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("the group has another dissector (see udpgrm list), or this one is not valid: %w", err)
	}
	return err
}
