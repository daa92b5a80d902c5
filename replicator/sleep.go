package replicator

import (
	"context"
	"time"

	"klink/internal/retry"
)

// sleep waits for d, and reports whether ctx is still there.
func sleep(ctx context.Context, d time.Duration) bool { return retry.Sleep(ctx, d) == nil }
