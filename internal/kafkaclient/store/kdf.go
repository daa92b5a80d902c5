package store

import (
	"hash"
	"math/big"
)

// What a key of PKCS #12 is for (RFC 7292, B.3).
const (
	forKey = 1
	forIV  = 2
	forMAC = 3
)

// deriveKey makes a key out of a password as PKCS #12 does (RFC 7292, B.2). The letters are those
// of the standard.
func deriveKey(newHash func() hash.Hash, purpose byte, password string, salt []byte, rounds, length int) []byte {
	h := newHash()
	v := h.BlockSize()
	d := make([]byte, v)
	for i := range d {
		d[i] = purpose
	}
	in := append(repeated(salt, v), repeated(append(utf16BE(password), 0, 0), v)...)
	var out []byte
	for {
		h.Reset()
		h.Write(d)
		h.Write(in)
		a := h.Sum(nil)
		for range rounds - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		out = append(out, a...)
		if len(out) >= length {
			return out[:length]
		}
		// Every block of in becomes (block + b + 1) mod 2^(8v).
		b := new(big.Int).SetBytes(repeated(a, v)[:v])
		b.Add(b, big.NewInt(1))
		modulus := new(big.Int).Lsh(big.NewInt(1), uint(8*v))
		for at := 0; at < len(in); at += v {
			block := new(big.Int).SetBytes(in[at : at+v])
			block.Add(block, b).Mod(block, modulus).FillBytes(in[at : at+v])
		}
	}
}

// repeated returns copies of s, cut to the next multiple of v.
func repeated(s []byte, v int) []byte {
	if len(s) == 0 {
		return nil
	}
	length := (len(s) + v - 1) / v * v
	out := make([]byte, 0, length+len(s))
	for len(out) < length {
		out = append(out, s...)
	}
	return out[:length]
}
