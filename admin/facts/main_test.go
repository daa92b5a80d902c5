package facts

import (
	"testing"

	"klink/internal/kafkatest"
)

func TestMain(m *testing.M) { kafkatest.Main(m) }
