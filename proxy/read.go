package proxy

import "golang.org/x/sys/unix"

// gnet reads a socket once per event, into a buffer of its own. That is right for small frames. Of large ones the first piece comes in this way,
// and the rest is read here, without a turn through epoll for each piece: into a buffer that stays in the processor's cache, or, where a large
// request is gathered, to the place where it is wanted.
const (
	// readBuffer is the size of gnet's buffer. When it was filled there is likely to be more.
	readBuffer = 64 << 10
	// readPiece is what is read at a time by readOn.
	readPiece = 256 << 10
	// readTurn is how much one connection may bring before others get their turn.
	readTurn = 1 << 20
	// readDirect is how much must be missing of a request for it to be read to its place.
	readDirect = 16 << 10
)

// readOn reads as long as the socket fills what it is given and there is use for it. The end of the stream and errors are left to gnet, which
// is told of them at its next event.
func (x *pair) readOn(s *side) {
	for total := 0; total < readTurn && x.state != dead && s.fd >= 0 && !s.paused && x.wantsBytes(s); {
		if room := x.requestRoom(s); len(room) > 0 {
			n, err := unix.Read(s.fd, room)
			if err != nil || n <= 0 {
				return
			}
			s.countReceived(n)
			s.in.extend(n)
			x.advance()
			if total += n; n < len(room) {
				return
			}
			continue
		}
		n, err := unix.Read(s.fd, x.loop.piece)
		if err != nil || n <= 0 {
			return
		}
		x.take(s, x.loop.piece[:n])
		if total += n; n < len(x.loop.piece) {
			return
		}
	}
}

// requestRoom is where the rest of the request that is being gathered goes; empty if there is none that is large enough, or if what comes
// has to be decrypted first.
func (x *pair) requestRoom(s *side) []byte {
	if s.upstream || s.tls != nil || s.in.len() == 0 || s.in.off > 0 {
		return nil
	}
	size := x.expects(nil)
	if size-s.in.len() < readDirect {
		return nil
	}
	return s.in.room(size)
}

// countReceived counts bytes from the socket.
func (s *side) countReceived(n int) {
	if s.upstream {
		s.pair.proxy.stats.UpstreamReceived.Add(int64(n))
	} else {
		s.pair.proxy.stats.ClientReceived.Add(int64(n))
	}
}
