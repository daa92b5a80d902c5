package store

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
	"unicode/utf16"
)

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}

	oidKeyBag       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidSealedKeyBag = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}

	oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	oidLocalKeyID   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	oidJavaTrusted  = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1}

	oidPBMAC1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
)

// The parts of a store, as ASN.1 (RFC 7292).
type (
	pfx struct {
		Version int
		Safe    contentInfo
		MAC     macData `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
	macData struct {
		Digest struct {
			Algorithm pkix.AlgorithmIdentifier
			Value     []byte
		}
		Salt   []byte
		Rounds int `asn1:"optional,default:1"`
	}
	encryptedData struct {
		Version int
		Content struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0,optional"`
		}
	}
	safeBag struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue `asn1:"tag:0,explicit"`
		Attributes asn1.RawValue `asn1:"optional"`
	}
	certBag struct {
		Type asn1.ObjectIdentifier
		Data []byte `asn1:"tag:0,explicit"`
	}
	attribute struct {
		Type   asn1.ObjectIdentifier
		Values asn1.RawValue
	}
	pbmac1Params struct{ Derivation, MAC pkix.AlgorithmIdentifier }
)

// safe is what a PKCS #12 store holds. Keys are still encrypted.
type safe struct {
	certs []bag
	keys  []bag
	left  *rounds
}

// bag is a certificate in DER, or a key.
type bag struct {
	value   []byte
	sealed  bool   // a key that is encrypted
	alias   string // for people
	id      []byte // the same for a key and its certificate
	trusted bool   // marked by Java
}

// isPKCS12 reports whether content begins as a store in DER does: a sequence that begins with the
// version.
func isPKCS12(content []byte) bool {
	var outer asn1.RawValue
	_, err := asn1.Unmarshal(content, &outer)
	return err == nil && outer.Class == asn1.ClassUniversal && outer.Tag == asn1.TagSequence && bytes.HasPrefix(outer.Bytes, []byte{2, 1, 3})
}

// readPKCS12 opens a store, but not the keys in it. Without a password it checks no MAC, as in
// Java, and what is encrypted has to open with the empty one.
func readPKCS12(content []byte, password string) (*safe, error) {
	s := &safe{left: newRounds()}
	var outer pfx
	if unmarshal(content, &outer) != nil {
		return nil, errDamaged
	}
	if !outer.Safe.Type.Equal(oidData) {
		return nil, errors.New("the store is protected with a public key, which is not supported")
	}
	var inner []byte
	if unmarshal(outer.Safe.Content.Bytes, &inner) != nil {
		return nil, errDamaged
	}
	if password != "" && len(outer.MAC.Digest.Algorithm.Algorithm) > 0 {
		mac, err := outer.MAC.compute(inner, password, s.left)
		if err != nil {
			return nil, err
		}
		if !hmac.Equal(mac, outer.MAC.Digest.Value) {
			return nil, errPassword
		}
	}
	return s, each(inner, func(part contentInfo) error { return s.add(part, password) })
}

// add takes in one part of a store.
func (s *safe) add(part contentInfo, password string) error {
	var bags []byte
	switch {
	case part.Type.Equal(oidData):
		if unmarshal(part.Content.Bytes, &bags) != nil {
			return errDamaged
		}
	case part.Type.Equal(oidEncryptedData):
		var e encryptedData
		if unmarshal(part.Content.Bytes, &e) != nil {
			return errDamaged
		}
		var err error
		bags, err = decrypt(e.Content.Algorithm, e.Content.Data, password, s.left)
		if errors.Is(err, errPassword) && password == "" {
			err = errNoPassword
		}
		if err != nil {
			return err
		}
	default:
		return unsupported("a part of it", part.Type)
	}
	return each(bags, s.addBag)
}

func (s *safe) addBag(b safeBag) error {
	found := bag{value: b.Value.Bytes}
	if err := found.describe(b.Attributes.Bytes); err != nil {
		return err
	}
	switch {
	case b.Type.Equal(oidCertBag):
		var cert certBag
		if unmarshal(b.Value.Bytes, &cert) != nil {
			return errDamaged
		}
		if !cert.Type.Equal(oidX509) {
			return nil
		}
		found.value = cert.Data
		s.certs = append(s.certs, found)
	case b.Type.Equal(oidKeyBag):
		s.keys = append(s.keys, found)
	case b.Type.Equal(oidSealedKeyBag):
		found.sealed = true
		s.keys = append(s.keys, found)
	}
	return nil // other bags hold no certificate and no private key
}

// describe reads the attributes of a bag.
func (b *bag) describe(attributes []byte) error {
	return eachIn(attributes, func(a attribute) error {
		var value asn1.RawValue
		if _, err := asn1.Unmarshal(a.Values.Bytes, &value); err != nil {
			return nil //nolint:nilerr // an empty attribute, or one that klink does not look at
		}
		switch {
		case a.Type.Equal(oidFriendlyName):
			name := make([]uint16, len(value.Bytes)/2)
			for i := range name {
				name[i] = binary.BigEndian.Uint16(value.Bytes[2*i:])
			}
			b.alias = string(utf16.Decode(name))
		case a.Type.Equal(oidLocalKeyID):
			b.id = value.Bytes
		case a.Type.Equal(oidJavaTrusted):
			b.trusted = true
		}
		return nil
	})
}

// compute returns the MAC of a store's content.
func (m macData) compute(content []byte, password string, left *rounds) ([]byte, error) {
	algorithm := m.Digest.Algorithm
	if algorithm.Algorithm.Equal(oidPBMAC1) {
		var params pbmac1Params
		if unmarshal(algorithm.Parameters.FullBytes, &params) != nil {
			return nil, errDamaged
		}
		h := hashOf(params.MAC.Algorithm)
		if h == nil {
			return nil, unsupported("its MAC", params.MAC.Algorithm)
		}
		derivation, err := pbkdf2Of(params.Derivation)
		if err != nil {
			return nil, err
		}
		if derivation.KeyLength < 20 || derivation.KeyLength > 64 { // RFC 9579
			return nil, errDamaged
		}
		key, err := derivePBKDF2(params.Derivation, password, derivation.KeyLength, left)
		if err != nil {
			return nil, err
		}
		mac := hmac.New(h, key)
		mac.Write(content)
		return mac.Sum(nil), nil
	}
	h := hashOf(algorithm.Algorithm)
	if h == nil {
		return nil, unsupported("its MAC", algorithm.Algorithm)
	}
	if err := left.take(m.Rounds); err != nil {
		return nil, err
	}
	mac := hmac.New(h, deriveKey(h, forMAC, password, m.Salt, m.Rounds, h().Size()))
	mac.Write(content)
	return mac.Sum(nil), nil
}

// each calls do for each element of a sequence, which is all of der.
func each[T any](der []byte, do func(T) error) error {
	var all asn1.RawValue
	if unmarshal(der, &all) != nil || all.Class != asn1.ClassUniversal || all.Tag != asn1.TagSequence {
		return errDamaged
	}
	return eachIn(all.Bytes, do)
}

// eachIn calls do for each element of a sequence or a set, without its header. One element at a
// time is in memory: a store of 1 MiB has room for half a million.
func eachIn[T any](elements []byte, do func(T) error) error {
	for len(elements) > 0 {
		var element T
		rest, err := asn1.Unmarshal(elements, &element)
		if err != nil {
			return errDamaged
		}
		if err := do(element); err != nil {
			return err
		}
		elements = rest
	}
	return nil
}

func trustPKCS12(content []byte, password string) ([]*x509.Certificate, error) {
	s, err := readPKCS12(content, password)
	if err != nil {
		return nil, err
	}
	marked := slices.ContainsFunc(s.certs, func(c bag) bool { return c.trusted })
	var ders [][]byte
	for _, c := range s.certs {
		ofKey := slices.ContainsFunc(s.keys, func(k bag) bool { return len(c.id) > 0 && bytes.Equal(k.id, c.id) })
		if c.trusted || ofKey || !marked && len(s.keys) == 0 {
			ders = append(ders, c.value)
		}
	}
	return parse(ders...)
}

func keyPKCS12(content []byte, password, keyPassword string) (tls.Certificate, error) {
	s, err := readPKCS12(content, password)
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
	key := s.keys[0]
	if key.sealed {
		var sealed encryptedKey
		if unmarshal(key.value, &sealed) != nil {
			return tls.Certificate{}, errDamaged
		}
		if keyPassword == "" {
			keyPassword = password
		}
		key.value, err = sealed.open(keyPassword, s.left)
		if errors.Is(err, errPassword) {
			err = errKeyPassword
		}
		if err != nil {
			return tls.Certificate{}, err
		}
	}
	chain, err := s.chain(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return pair(chain, key.value)
}

// chain returns the certificates of a key: its own, the one of who issued that, and so on, as far
// as they are in the store.
func (s *safe) chain(key bag) ([][]byte, error) {
	if len(key.value) > maxKey {
		return nil, errors.New("the private key is too large")
	}
	private, err := x509.ParsePKCS8PrivateKey(key.value)
	if err != nil {
		return nil, errors.New("the private key in the store is none that klink can use")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key in the store cannot sign")
	}
	own := -1
	certs := make([]*x509.Certificate, 0, len(s.certs))
	for i, b := range s.certs {
		parsed, err := parse(b.value)
		if err != nil {
			return nil, err
		}
		certs = append(certs, parsed...)
		public, ok := parsed[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if ok && public.Equal(signer.Public()) && (own < 0 || len(b.id) > 0 && bytes.Equal(b.id, key.id)) {
			own = i
		}
	}
	if own < 0 {
		return nil, errors.New("no certificate of the private key in it")
	}
	var chain [][]byte
	for next := certs[own]; next != nil && len(chain) < maxChain; {
		chain = append(chain, next.Raw)
		issuer := next.RawIssuer
		if bytes.Equal(issuer, next.RawSubject) {
			break
		}
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, issuer) })
		if next = nil; i >= 0 {
			next = certs[i]
		}
	}
	return chain, nil
}
