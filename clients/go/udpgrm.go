// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

// Package udpgrm is the library for servers that take part in graceful restarts.
//
//	sockets, err := udpgrm.Bind("0.0.0.0:4433", 2, udpgrm.Flow(0))
//	indices, err := udpgrm.Enroll(sockets, generation, 5*time.Second)
//	... // serve; when ready for new flows:
//	err = udpgrm.Promote(sockets[0], generation)
//
// Nothing here needs privileges, only hooks on the process's cgroup. An error is ErrNotHooked where
// there are none, and holds the errno: errors.Is(err, syscall.EPERM).
package udpgrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// Socket options, level IPPROTO_UDP.
const (
	optionWorkingGen = 200
	optionSocketGen  = 201
	optionDissector  = 202
	optionFlowAssure = 203
)

const (
	none        = 0xffffffff
	soReusePort = 15 // package syscall has it on some machines only
	poll        = time.Millisecond
)

// ErrNotHooked means that this process's cgroup has no hooks, or that the socket was bound before
// they came or without SO_REUSEPORT, or that its address is another user's.
var ErrNotHooked = errors.New("no udpgrm hooks, or the socket came before them (see udpgrm doctor)")

// notHooked is an errno that means ErrNotHooked.
type notHooked struct{ error }

func (e notHooked) Error() string        { return ErrNotHooked.Error() + ": " + e.error.Error() }
func (e notHooked) Unwrap() error        { return e.error }
func (e notHooked) Is(target error) bool { return target == ErrNotHooked }

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// native is the machine's order of bytes.
var native = func() byteOrder {
	one := uint16(1)
	if *(*byte)(unsafe.Pointer(&one)) == 1 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}()

// SocketGeneration is what a socket's generation is. Index -1: not registered yet.
type SocketGeneration struct {
	Generation uint32
	Index      int
	Cookie     uint16 // udpgrm cookie, for connection IDs
}

// control makes a system call on a socket's descriptor.
func control(conn syscall.Conn, name string, call func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = call(int(fd)) }); err != nil {
		return err
	}
	if failed == nil {
		return nil
	}
	failed = os.NewSyscallError(name, failed)
	for _, number := range []error{syscall.ENOPROTOOPT, syscall.EBADF, syscall.EBADFD} {
		if errors.Is(failed, number) {
			return notHooked{failed}
		}
	}
	return failed
}

func set(conn syscall.Conn, option int, value []byte) error {
	return control(conn, "setsockopt", func(fd int) error {
		return syscall.SetsockoptString(fd, syscall.IPPROTO_UDP, option, string(value))
	})
}

func setNumber(conn syscall.Conn, option int, value uint32) error {
	var raw [4]byte
	native.PutUint32(raw[:], value)
	return set(conn, option, raw[:])
}

// Probe returns whether this process's cgroup has udpgrm's hooks, which a daemon installs.
func Probe() (bool, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	_, err = syscall.GetsockoptInt(fd, syscall.IPPROTO_UDP, optionWorkingGen)
	if err == syscall.ENOPROTOOPT {
		return false, nil
	}
	return err == nil, os.NewSyscallError("getsockopt", err)
}

// Bind makes UDP sockets of one reuseport group. Of an error no socket is left open; EPERM: the
// group has another dissector. To bind to a device, make the sockets with a net.ListenConfig and
// call SetDissector.
func Bind(address string, count int, dissector Dissector) ([]*net.UDPConn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	var made []*net.UDPConn
	for len(made) < count {
		conn, err := bindOne(to, dissector)
		if err != nil {
			for _, conn := range made {
				conn.Close()
			}
			return nil, fmt.Errorf("%s: %w", address, err)
		}
		made = append(made, conn)
	}
	return made, nil
}

func bindOne(to netip.AddrPort, dissector Dissector) (*net.UDPConn, error) {
	network := "udp6"
	family := syscall.AF_INET6
	if to.Addr().Is4() {
		network, family = "udp4", syscall.AF_INET
	}
	where, err := sockaddr(to)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), network+":"+to.String())
	defer file.Close() // the connection has a duplicate
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soReusePort, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, where); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := SetDissector(file, dissector); err != nil {
		return nil, err
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func sockaddr(to netip.AddrPort) (syscall.Sockaddr, error) {
	if to.Addr().Is4() {
		return &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, nil
	}
	six := &syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	zone := to.Addr().Zone()
	if device, err := net.InterfaceByName(zone); err == nil {
		six.ZoneId = uint32(device.Index)
	} else if index, err := strconv.ParseUint(zone, 10, 32); err == nil {
		six.ZoneId = uint32(index)
	} else if zone != "" {
		return nil, fmt.Errorf("there is no network device %q: %w", zone, syscall.ENODEV)
	}
	return six, nil
}

// Enroll puts sockets into a generation and waits as WaitRegistered does. It returns their indices.
func Enroll[S syscall.Conn](sockets []S, generation uint32, timeout time.Duration) ([]int, error) {
	deadline := time.Now().Add(timeout)
	for _, socket := range sockets {
		for {
			err := setNumber(socket, optionSocketGen, generation)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EAGAIN) { // the daemon is busy: its queue is full
				return nil, err
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("the daemon's queue is full: %w", os.ErrDeadlineExceeded)
			}
			time.Sleep(poll)
		}
	}
	return WaitRegistered(sockets, time.Until(deadline))
}

// WaitRegistered waits until the daemon has registered sockets that are in a generation, and returns
// their indices. os.ErrDeadlineExceeded: a socket was not enrolled, no daemon runs, or the
// generation has 256 sockets.
func WaitRegistered[S syscall.Conn](sockets []S, timeout time.Duration) ([]int, error) {
	deadline := time.Now().Add(timeout)
	var indices []int
	for _, socket := range sockets {
		for {
			value, err := GenerationOf(socket)
			if err != nil {
				return nil, err
			}
			if value.Index >= 0 {
				indices = append(indices, value.Index)
				break
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("%w: a socket got no index: not enrolled, "+
					"no daemon runs, or it could not register the socket (see udpgrm doctor)",
					os.ErrDeadlineExceeded)
			}
			time.Sleep(poll)
		}
	}
	return indices, nil
}

// Promote makes a generation the working one of the socket's group.
func Promote(socket syscall.Conn, generation uint32) error {
	return setNumber(socket, optionWorkingGen, generation)
}

// WorkingGeneration returns the working generation of a socket's group; false while there is none.
func WorkingGeneration(socket syscall.Conn) (generation uint32, found bool, err error) {
	err = control(socket, "getsockopt", func(fd int) error {
		value, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_UDP, optionWorkingGen)
		generation = uint32(value)
		return err
	})
	return generation, err == nil && generation != none, err
}

// GenerationOf returns a socket's generation, index and udpgrm cookie.
func GenerationOf(socket syscall.Conn) (SocketGeneration, error) {
	var raw []byte
	err := control(socket, "getsockopt", func(fd int) error {
		// any value of 12 bytes will do
		value, err := syscall.GetsockoptIPMreqn(fd, syscall.IPPROTO_UDP, optionSocketGen)
		if err == nil {
			raw = append(append(raw, value.Multiaddr[:]...), value.Address[:]...)
			raw = native.AppendUint32(raw, uint32(value.Ifindex))
		}
		return err
	})
	if err != nil {
		return SocketGeneration{}, err
	}
	index := int(int32(native.Uint32(raw[4:])))
	if native.Uint16(raw[10:]) != 0 { // it moves, and this is still the index of its last one
		index = -1
	}
	return SocketGeneration{native.Uint32(raw), index, native.Uint16(raw[8:])}, nil
}

// AssureFlow makes or refreshes the flow of a peer, as if the socket had sent to it. EEXIST: another
// socket has the flow. EPERM: the group's dissector has no flow table, or packets of this address
// family do not reach the socket.
func AssureFlow(socket syscall.Conn, peer netip.AddrPort) error {
	from := peer.Addr().Unmap() // net.UDPAddr often has ::ffff:192.0.2.1 of 192.0.2.1
	family := uint16(syscall.AF_INET)
	if !from.Is4() {
		family = syscall.AF_INET6
	}
	value := native.AppendUint16(nil, family)
	value = binary.BigEndian.AppendUint16(value, peer.Port())
	if from.Is4() {
		value = append(value, from.AsSlice()...)
		return set(socket, optionFlowAssure, append(value, make([]byte, 8)...))
	}
	value = append(append(value, make([]byte, 4)...), from.AsSlice()...)
	return set(socket, optionFlowAssure, append(value, make([]byte, 4)...))
}
