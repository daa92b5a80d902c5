package batch

import "errors"

// Reasons why a batch cannot be mirrored as it is. Errors of this package wrap one of them, and say
// where and what was found.
var (
	// ErrMalformed: the bytes are not a batch.
	ErrMalformed = errors.New("malformed record batch")
	// ErrCorrupt: a checksum is wrong, or compressed records cannot be decompressed.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrTooLarge: decompression gives more bytes than the limit.
	ErrTooLarge = errors.New("records too large")
	// ErrOldFormat: message format v0 or v1 (before Kafka 0.11).
	ErrOldFormat = errors.New("message format v0 or v1")
	// ErrUnsupported: a format, codec or attribute that klink does not know.
	ErrUnsupported = errors.New("unknown batch attributes")
	// ErrControl: a control batch, such as a transaction marker.
	ErrControl = errors.New("control batch")
	// ErrTransactional: a batch of a transaction.
	ErrTransactional = errors.New("transactional batch")
	// ErrEmpty: compaction has removed every record.
	ErrEmpty = errors.New("batch without records")
	// ErrThinned: compaction has removed some records, or has marked the batch for the removal of
	// tombstones.
	ErrThinned = errors.New("batch thinned by compaction")
	// ErrLogAppendTime: the source topic has message.timestamp.type=LogAppendTime.
	ErrLogAppendTime = errors.New("batch with LogAppendTime")
)
