package wire

import (
	"fmt"

	"klink/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// span is the range of versions that a broker supports for a key; max < 0 = none.
type span struct{ min, max int16 }

// versions are the ranges for the keys that this package sends.
type versions struct{ produce, fetch, handshake, authenticate span }

// FetchVersion returns the version of Fetch to use. Without ids it is one that names topics by
// name, not by id (KIP-516).
func (c *Conn) FetchVersion(ids bool) (int16, error) {
	most := int16(maxFetch)
	if !ids {
		most = FirstFetchWithIDs - 1
	}
	return c.choose(kmsg.Fetch, c.versions.fetch, minFetch, most)
}

// ProduceVersion returns the version of Produce to use. Without ids it is one that names topics by
// name, not by id (KIP-516).
func (c *Conn) ProduceVersion(ids bool) (int16, error) {
	most := int16(maxProduce)
	if !ids {
		most = FirstProduceWithIDs - 1
	}
	return c.choose(kmsg.Produce, c.versions.produce, minProduce, most)
}

// choose returns the highest version that both sides know and that the client's options allow.
func (c *Conn) choose(key kmsg.Key, theirs span, low, high int16) (int16, error) {
	if c.d.most != nil {
		if v, ok := c.d.most.LookupMaxKeyVersion(int16(key)); ok {
			high = min(high, v)
		}
	}
	v := min(high, theirs.max)
	if v < low || v < theirs.min {
		return 0, &UnsentError{fmt.Errorf("%w: %s supports %s v%d to v%d, klink v%d to v%d",
			kerr.UnsupportedVersion, c.addr, key.Name(), theirs.min, theirs.max, low, high)}
	}
	return v, nil
}

// negotiate asks the broker which versions it supports.
func (c *Conn) negotiate() error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "klink", "1" // empty ones are refused
	for _, version := range []int16{3, 0} {
		req.Version = version
		body, err := c.control(req)
		if err != nil {
			return err
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version = version
		if len(body) >= 2 && int16(body[0])<<8|int16(body[1]) == kerr.UnsupportedVersion.Code && version > 0 {
			continue // brokers before KIP-511 answer in v0
		}
		if err := decode(resp, body); err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return err
		}
		c.versions = versions{span{0, -1}, span{0, -1}, span{0, -1}, span{0, -1}}
		for _, k := range resp.ApiKeys {
			s := span{k.MinVersion, k.MaxVersion}
			switch kmsg.Key(k.ApiKey) {
			case kmsg.Produce:
				c.versions.produce = s
			case kmsg.Fetch:
				c.versions.fetch = s
			case kmsg.SASLHandshake:
				c.versions.handshake = s
			case kmsg.SASLAuthenticate:
				c.versions.authenticate = s
			}
		}
		return nil
	}
	return kerr.UnsupportedVersion
}

// maxDecoded bounds, in bytes, the memory of a decoded response to ApiVersions or to a request of a
// login.
const maxDecoded = 8 << 20

// decode decodes a response with kmsg. As kmsg trusts the counts in a response, decode checks them
// first.
func decode(resp kmsg.Response, body []byte) error {
	m, ok := protocol.MessageOf(resp.Key())
	if !ok {
		return fmt.Errorf("%w: no shape of %s", ErrMalformed, kmsg.NameForKey(resp.Key()))
	}
	if err := m.Response.CheckParts([][]byte{body}, resp.GetVersion(), resp.IsFlexible(), protocol.Limits{Memory: maxDecoded}); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := resp.ReadFrom(body); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// control sends a request other than Fetch and Produce, and returns the body of the response.
func (c *Conn) control(req kmsg.Request) ([]byte, error) {
	c.correlation++
	b := kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.d.clientID)).AppendRequest(nil, req, c.correlation)
	c.extend(c.overhead)
	if _, err := c.nc.Write(b); err != nil {
		return nil, c.failed(err)
	}
	c.flight = 1
	size, err := c.receive(maxControl)
	if err != nil {
		return nil, err
	}
	body := make([]byte, size)
	if err := c.Read(body); err != nil {
		return nil, err
	}
	// A broker answers ApiVersions without tagged fields in the header, for clients that do not
	// know the version of the response.
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		r := reader{b: body}
		r.tags(true)
		if r.bad {
			return nil, ErrMalformed
		}
		body = r.b
	}
	return body, nil
}
