package kafkaclient

import (
	"bytes"
	"errors"
	"testing"

	"klink/protocol/batch"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"
)

// klink's clients read batches of every codec, but none that becomes too large.
func TestClientsDecompressWithinBounds(t *testing.T) {
	d := decompressor{batch.MaxInflated}
	text := bytes.Repeat([]byte("some text "), 10_000)
	for _, codec := range []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	} {
		c, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		packed, used := text, kgo.CodecNone
		if c != nil {
			packed, used = c.Compress(new(bytes.Buffer), text)
		}
		if got, err := d.Decompress(packed, used); err != nil || !bytes.Equal(got, text) {
			t.Errorf("codec %d: %d bytes, %v", used, len(got), err)
		}
	}
	var bomb bytes.Buffer
	z, _ := zstd.NewWriter(&bomb, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	zeros := make([]byte, 1<<20)
	for range batch.MaxInflated>>20 + 1 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	if _, err := d.Decompress(bomb.Bytes(), kgo.CodecZstd); !errors.Is(err, kgo.ErrMaxDecompress) {
		t.Error(err)
	}
	opts, err := Properties{"bootstrap.servers": "127.0.0.1:1"}.Options()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, ok := cl.OptValue(kgo.WithDecompressor).(decompressor); !ok {
		t.Errorf("clients decompress with %T", cl.OptValue(kgo.WithDecompressor))
	}
}
