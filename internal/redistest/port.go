package redistest

import (
	"errors"
	"math/rand/v2"
	"net"
)

// Ports are drawn from below the ephemeral ranges of Linux (32768 up) and of
// the BSDs (49152 up), so that no outgoing connection of anybody can take the
// port of a server while it is down for a restart.
const (
	portMin = 12000
	portMax = 32000
)

// port is a TCP port of loopback that is set aside for one server.
//
// What sets it aside is a UDP socket bound to the same number: test binaries
// that run at the same time see each other's through the kernel, which also
// drops it when a binary dies. Redis uses no UDP, so nothing is in the way, and
// the port stays ours between Stop and Restart.
type port struct {
	number int
	hold   net.PacketConn
}

// reservePort draws ports until one is free in both protocols.
func reservePort() (*port, error) {
	var last error
	for range 200 {
		n := portMin + rand.IntN(portMax-portMin)
		hold, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n})
		if err != nil {
			last = err
			continue
		}
		probe, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: n})
		if err != nil {
			last = errors.Join(err, hold.Close())
			continue
		}
		if err := probe.Close(); err != nil {
			return nil, errors.Join(err, hold.Close())
		}
		return &port{number: n, hold: hold}, nil
	}
	return nil, last
}

func (p *port) release() error { return p.hold.Close() }
