package store

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the format knows nothing else
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"unicode/utf16"
)

var (
	magicJKS   = []byte{0xfe, 0xed, 0xfe, 0xed}
	magicJCEKS = []byte{0xce, 0xce, 0xce, 0xce}

	oidJKSKey = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 42, 2, 17, 1, 1}
)

// jks is the content of a JKS store. Nothing in it is copied.
type jks struct {
	trusted [][]byte // certificates
	keys    []jksKey
}

type jksKey struct {
	alias  string
	sealed []byte
	chain  [][]byte
}

// The tags of entries.
const (
	jksTagKey     = 1
	jksTagTrusted = 2
)

// readJKS reads a store of Java's own format (sun.security.provider.JavaKeyStore). Without a
// password the digest at its end is not checked.
func readJKS(content []byte, password string) (*jks, error) {
	if len(content) < len(magicJKS)+sha1.Size {
		return nil, errDamaged
	}
	body, digest := content[:len(content)-sha1.Size], content[len(content)-sha1.Size:]
	if password != "" {
		h := sha1.New() //nolint:gosec // see above
		h.Write(utf16BE(password))
		h.Write([]byte("Mighty Aphrodite"))
		h.Write(body)
		if subtle.ConstantTimeCompare(h.Sum(nil), digest) != 1 {
			return nil, errPassword
		}
	}
	r := &jksReader{rest: body[len(magicJKS):]}
	version, entries := r.uint32(), r.uint32()
	if version != 1 && version != 2 {
		return nil, errDamaged
	}
	s := &jks{}
	for range entries {
		tag, alias := r.uint32(), r.text()
		r.bytes(8) // the time of creation
		switch tag {
		case jksTagKey:
			key := jksKey{alias: alias, sealed: r.blob()}
			for range r.uint32() {
				if key.chain = append(key.chain, r.certificate(version)); r.failed {
					break
				}
			}
			s.keys = append(s.keys, key)
		case jksTagTrusted:
			s.trusted = append(s.trusted, r.certificate(version))
		default:
			r.failed = true
		}
		if r.failed {
			return nil, errDamaged
		}
	}
	if r.failed || len(r.rest) > 0 {
		return nil, errDamaged
	}
	return s, nil
}

// jksReader cuts a store into its parts. After a failure it returns nothing more.
type jksReader struct {
	rest   []byte
	failed bool
}

func (r *jksReader) bytes(n uint32) []byte {
	if r.failed || uint64(n) > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	cut := r.rest[:n]
	r.rest = r.rest[n:]
	return cut
}

func (r *jksReader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *jksReader) text() string {
	b := r.bytes(2)
	if b == nil {
		return ""
	}
	return string(r.bytes(uint32(binary.BigEndian.Uint16(b))))
}

func (r *jksReader) blob() []byte { return r.bytes(r.uint32()) }

func (r *jksReader) certificate(version uint32) []byte {
	if version == 2 {
		r.text() // X.509
	}
	return r.blob()
}

func trustJKS(content []byte, password string) ([]*x509.Certificate, error) {
	s, err := readJKS(content, password)
	if err != nil {
		return nil, err
	}
	ders := s.trusted
	for _, key := range s.keys {
		if len(key.chain) > 0 {
			ders = append(ders, key.chain[0])
		}
	}
	return parse(ders...)
}

func keyJKS(content []byte, password, keyPassword string) (tls.Certificate, error) {
	s, err := readJKS(content, password)
	if err != nil {
		return tls.Certificate{}, err
	}
	if len(s.keys) != 1 {
		aliases := make([]string, 0, len(s.keys))
		for _, key := range s.keys {
			aliases = append(aliases, key.alias)
		}
		return tls.Certificate{}, one(aliases)
	}
	if keyPassword == "" {
		keyPassword = password
	}
	if keyPassword == "" {
		return tls.Certificate{}, errNoPassword
	}
	key, err := s.keys[0].open(keyPassword)
	if err != nil {
		return tls.Certificate{}, err
	}
	return pair(s.keys[0].chain, key)
}

// open decrypts the private key as sun.security.provider.KeyProtector does: with a stream of
// SHA-1 digests of the password and the digest before.
func (k jksKey) open(password string) ([]byte, error) {
	var sealed encryptedKey
	if unmarshal(k.sealed, &sealed) != nil || !sealed.Algorithm.Algorithm.Equal(oidJKSKey) || len(sealed.Data) <= 2*sha1.Size {
		return nil, errDamaged
	}
	if len(sealed.Data) > maxKey+2*sha1.Size {
		return nil, errors.New("the private key is too large")
	}
	secret := utf16BE(password)
	digest, rest := sealed.Data[:sha1.Size], sealed.Data[sha1.Size:]
	key, check := bytes.Clone(rest[:len(rest)-sha1.Size]), rest[len(rest)-sha1.Size:]
	h := sha1.New() //nolint:gosec // see above
	for at := 0; at < len(key); at += sha1.Size {
		h.Reset()
		h.Write(secret)
		h.Write(digest)
		digest = h.Sum(nil)
		part := key[at:min(at+sha1.Size, len(key))]
		subtle.XORBytes(part, part, digest)
	}
	h.Reset()
	h.Write(secret)
	h.Write(key)
	if subtle.ConstantTimeCompare(h.Sum(nil), check) != 1 {
		return nil, errKeyPassword
	}
	return key, nil
}

// utf16BE returns the characters of a password as Java hashes them.
func utf16BE(s string) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return b
}
