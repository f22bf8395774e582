// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//go:build quic

// An HTTP/3 server whose connections outlive its own replacement, with quic-go 0.29.
//
//	h3_server IP PORT GENERATION [promote]
//
// Connection IDs that it chooses begin with the udpgrm cookie of its socket. The dissector quic reads
// it there, so every packet of a connection reaches its socket, whatever the working generation is.
// An answer is `GENERATION PID ` and the path. The certificate is its own.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/lucas-clemente/quic-go"
	"github.com/lucas-clemente/quic-go/http3"

	"udpgrm"
)

// Below the 8 bytes that a client's own first ID has at least, so none is mistaken for ours.
const idLength = 7

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, err
}

func run() error {
	if len(os.Args) < 4 {
		return errors.New("usage: h3_server IP PORT GENERATION [promote]")
	}
	generation, err := strconv.ParseUint(os.Args[3], 10, 32)
	if err != nil {
		return err
	}
	dissector, err := udpgrm.Named("quic", fmt.Sprintf(`{"cid_length": %d}`, idLength))
	if err != nil {
		return err
	}
	sockets, err := udpgrm.Bind(net.JoinHostPort(os.Args[1], os.Args[2]), 1, dissector)
	if err != nil {
		return err
	}
	if _, err := udpgrm.Enroll(sockets, uint32(generation), 5*time.Second); err != nil {
		return err
	}
	own, err := udpgrm.GenerationOf(sockets[0])
	if err != nil {
		return err
	}
	if len(os.Args) > 4 {
		if err := udpgrm.Promote(sockets[0], uint32(generation)); err != nil {
			return err
		}
	}
	identity, err := certificate()
	if err != nil {
		return err
	}
	ids := udpgrm.ConnectionIDs{Cookie: own.Cookie, Length: idLength}
	server := http3.Server{
		TLSConfig:  &tls.Config{Certificates: []tls.Certificate{identity}},
		QuicConfig: &quic.Config{ConnectionIDGenerator: ids},
		Handler: http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
			fmt.Fprintf(answer, "%d %d %s", generation, os.Getpid(), request.URL.Path)
		}),
	}
	fmt.Println("ready")
	return server.Serve(sockets[0])
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "h3_server:", err)
		os.Exit(1)
	}
}
