// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

package udpgrm

import (
	"crypto/rand"
	"encoding/binary"
)

// ConnectionIDs generates QUIC connection IDs that begin with a socket's udpgrm cookie, for the
// dissector "quic" with offset 0. It is a ConnectionIDGenerator of quic-go 0.29, whose IDs are slices
// of bytes; later versions have a type quic.ConnectionID for them.
type ConnectionIDs struct {
	Cookie uint16
	Length int
}

// GenerateConnectionID returns a new connection ID.
func (c ConnectionIDs) GenerateConnectionID() ([]byte, error) {
	id := make([]byte, c.Length)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(id, c.Cookie)
	return id, nil
}

// ConnectionIDLen returns the length of all connection IDs.
func (c ConnectionIDs) ConnectionIDLen() int {
	return c.Length
}
