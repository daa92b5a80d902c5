package sources

import (
	"testing"

	"github.com/stretchr/testify/require"

	"klink/internal/kafkaclient"
)

// TestEveryTroubleHasAdvice: whatever is wrong with a source, klink says what to check.
func TestEveryTroubleHasAdvice(t *testing.T) {
	for trouble := kafkaclient.TroubleOther; trouble <= kafkaclient.TroubleNotKafka; trouble++ {
		require.NotEmpty(t, adviceFor[trouble], "trouble %d", trouble)
	}
}
