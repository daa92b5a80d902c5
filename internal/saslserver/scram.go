package saslserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf8"

	"klink/internal/saslserver/users"
)

const (
	// maxMessage bounds the messages of a client in bytes.
	maxMessage = 4 << 10
	// nonceSize is the size of the server's part of the nonce in bytes.
	nonceSize = 24
)

// scramExchange is SCRAM (RFC 5802) without channel binding, as brokers do it.
type scramExchange struct {
	server    *Server
	mechanism string

	begun       bool
	name        string
	known       bool
	credential  *users.Credential
	header      string // of the first message (gs2)
	nonce       string
	firstBare   string
	serverFirst string
}

// Step implements Exchange.
func (e *scramExchange) Step(_ context.Context, message []byte) ([]byte, *Client, error) {
	if len(message) > maxMessage || !utf8.Valid(message) || bytes.IndexByte(message, 0) >= 0 {
		return nil, nil, malformed(e.mechanism)
	}
	if !e.begun {
		e.begun = true
		return e.first(string(message))
	}
	return e.last(string(message))
}

// first takes n,[a=ID],n=NAME,r=NONCE[,extensions].
func (e *scramExchange) first(message string) ([]byte, *Client, error) {
	flag, rest, ok1 := strings.Cut(message, ",")
	id, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 || flag != "n" && flag != "y" {
		return nil, nil, malformed(e.mechanism) // with channel binding, for one
	}
	e.header, e.firstBare = flag+","+id+",", bare
	fields := strings.Split(bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") || len(fields[1]) < len("r=")+8 {
		return nil, nil, malformed(e.mechanism) // or with extensions that must be understood (m=)
	}
	name, ok := unescape(fields[0][2:])
	if !ok || name == "" {
		return nil, nil, malformed(e.mechanism)
	}
	for _, extension := range fields[2:] {
		if strings.EqualFold(extension, "tokenauth=true") {
			return nil, nil, &Failure{Told: "Authentication failed: klink serves no logins by delegation token"}
		}
	}
	if id != "" {
		asked, ok := unescape(strings.TrimPrefix(id, "a="))
		if !ok || !strings.HasPrefix(id, "a=") {
			return nil, nil, malformed(e.mechanism)
		}
		if asked != name {
			return nil, nil, other()
		}
	}
	random := make([]byte, nonceSize)
	_, _ = rand.Read(random) // never fails
	e.name, e.nonce = name, fields[1][2:]+base64.RawURLEncoding.EncodeToString(random)
	e.credential, e.known = e.server.table().Lookup(name, e.mechanism)
	e.serverFirst = "r=" + e.nonce + ",s=" + base64.StdEncoding.EncodeToString(e.credential.Salt) + ",i=" + strconv.Itoa(e.credential.Iterations)
	return []byte(e.serverFirst), nil, nil
}

// last takes c=HEADER,r=NONCE[,extensions],p=PROOF.
func (e *scramExchange) last(message string) ([]byte, *Client, error) {
	at := strings.LastIndex(message, ",p=")
	if e.credential == nil || at < 0 {
		return nil, nil, malformed(e.mechanism)
	}
	without := message[:at]
	proof, err := base64.StdEncoding.DecodeString(message[at+len(",p="):])
	h := users.Hash(e.mechanism)
	bound := "c=" + base64.StdEncoding.EncodeToString([]byte(e.header)) + ",r=" + e.nonce
	if err != nil || len(proof) != h().Size() || without != bound && !strings.HasPrefix(without, bound+",") {
		return nil, nil, malformed(e.mechanism)
	}
	signed := []byte(e.firstBare + "," + e.serverFirst + "," + without)
	signature := users.MAC(h, e.credential.StoredKey, signed)
	subtle.XORBytes(proof, proof, signature) // the client's key, if the proof is right
	stored := h()
	stored.Write(proof)
	right := subtle.ConstantTimeCompare(stored.Sum(nil), e.credential.StoredKey) == 1
	if !right || !e.known {
		return nil, nil, wrong(e.mechanism, "")
	}
	mine := users.MAC(h, e.credential.ServerKey, signed)
	return []byte("v=" + base64.StdEncoding.EncodeToString(mine)), &Client{Name: e.name}, nil
}

// unescape reads a name, in which a comma is =2C and an equals sign is =3D.
func unescape(s string) (string, bool) {
	plain := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	return plain, strings.Count(s, "=") == strings.Count(s, "=2C")+strings.Count(s, "=3D")
}
