package kafkaclient

import (
	"errors"
	"fmt"

	"klink/protocol/batch"

	"github.com/twmb/franz-go/pkg/kgo"
)

// decompressor decompresses the batches that klink's own clients read. The cluster may be
// anybody's: a batch of more than most bytes ends the reading of its partition with
// kgo.ErrMaxDecompress.
type decompressor struct{ most int }

// MaxInflated makes a client refuse batches of more than most bytes after decompression. Without it
// the limit is batch.MaxInflated.
func MaxInflated(most int) kgo.Opt { return kgo.WithDecompressor(decompressor{most}) }

// Decompress implements kgo.Decompressor.
func (d decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return src, nil
	}
	plain, err := batch.Inflate(src, int8(codec), d.most)
	if errors.Is(err, batch.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", kgo.ErrMaxDecompress, err)
	}
	return plain, err
}
