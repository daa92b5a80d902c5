package e2e

import (
	"os"
	"testing"

	"klink/internal/kafkatest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	kafkatest.StopShared()
	removeBinary()
	os.Exit(code)
}
