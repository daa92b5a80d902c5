package admin

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"klink/admin/linkconfig"
	"klink/admin/model"
	"klink/admin/sources"
	"klink/internal/kafkaclient"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestHostileSource: a source answers ApiVersions with a count of four billion tags, over which
// franz-go alone would loop for a minute. klink fails the connection, with an error that names the
// broker and the response, long before the request times out.
func TestHostileSource(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	bomb := binary.AppendUvarint([]byte{0, 0, 1, 0, 0, 0, 0}, 1<<32-1) // ApiVersions: no error, no keys, no throttle, tags
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				var size [4]byte
				if _, err := io.ReadFull(nc, size[:]); err != nil {
					return
				}
				r := make([]byte, binary.BigEndian.Uint32(size[:]))
				if _, err := io.ReadFull(nc, r); err != nil || binary.BigEndian.Uint16(r) != uint16(kmsg.ApiVersions) {
					return
				}
				b := binary.BigEndian.AppendUint32(nil, uint32(4+len(bomb)))
				_, _ = nc.Write(append(append(b, r[4:8]...), bomb...))
				_, _ = io.Copy(io.Discard, nc)
			}()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, refused := sources.Connect(ctx, kafkaclient.Files{}, "east", map[string]string{linkconfig.ConfigBootstrapServers: ln.Addr().String()})
	require.NotNil(t, refused)
	require.NoError(t, ctx.Err(), "the client is busy")
	require.ErrorContains(t, refused, string(model.ErrInternal))
	require.ErrorContains(t, refused, "the connection to broker "+ln.Addr().String()+" was closed because of its response to ApiVersions v")
	require.ErrorContains(t, refused, "check security.protocol, and that bootstrap.servers points to Kafka listeners")
}
