package proxy

// inbox holds bytes that have arrived and were not consumed yet. They are contiguous, because a
// session receives whole frames. An empty inbox holds no memory.
type inbox struct {
	buf *buffer
	off int // bytes of buf that are consumed
}

func (in *inbox) len() int {
	if in.buf == nil {
		return 0
	}
	return len(in.buf.b) - in.off
}

// size returns the memory that the inbox holds, in bytes.
func (in *inbox) size() int { return in.buf.size() }

// grows returns by how much addHint would grow the memory. While addHint grows it, a copy exists in
// addition.
func (in *inbox) grows(n, want int) int {
	have := 0
	if in.buf != nil {
		have = len(in.buf.b)
		if in.off > 0 && have+n > cap(in.buf.b) {
			have -= in.off
		}
	}
	return max(in.buf.grownSize(have+n, want)-in.size(), 0)
}

// bytes returns the unconsumed bytes. They are valid until the next call of another method.
func (in *inbox) bytes() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf.b[in.off:]
}

func (in *inbox) add(p []byte) { in.addHint(p, 0) }

// addHint is add for when want bytes are expected in all. See buffer.grown for how far want is
// trusted.
func (in *inbox) addHint(p []byte, want int) {
	if len(p) == 0 {
		return
	}
	if in.off > 0 && len(in.buf.b)+len(p) > cap(in.buf.b) {
		// Make room by dropping consumed bytes before asking for a larger buffer.
		in.buf.b = in.buf.b[:copy(in.buf.b, in.buf.b[in.off:])]
		in.off = 0
	}
	have := 0
	if in.buf != nil {
		have = len(in.buf.b)
	}
	in.buf = in.buf.grown(have+len(p), want)
	in.buf.b = append(in.buf.b, p...)
}

// consume drops the first n bytes.
func (in *inbox) consume(n int) {
	in.off += n
	if in.buf != nil && in.off == len(in.buf.b) {
		in.buf.free()
		in.buf, in.off = nil, 0
	}
}

// detach consumes the first n bytes but leaves them in place: the caller now owns their buffer. The
// inbox copies the bytes after them to a new one.
func (in *inbox) detach(n int) *buffer {
	owned := in.buf
	rest := owned.b[in.off+n:]
	in.buf, in.off = nil, 0
	in.add(rest)
	return owned
}

// drop forgets everything. It does not free the buffer, because callers further up the stack may
// still use it.
func (in *inbox) drop() { in.buf, in.off = nil, 0 }
