package replicator

import (
	"errors"
	"strings"
	"testing"

	"klink/internal/kafkaclient"
)

// TestEveryTroubleIsTold: klink says something of each kind of trouble, with the error in it.
func TestEveryTroubleIsTold(t *testing.T) {
	for trouble := kafkaclient.TroubleOther; trouble <= kafkaclient.TroubleNotKafka; trouble++ {
		if strings.Count(sourceTrouble[trouble], "%v") != 1 {
			t.Errorf("trouble %d: %q", trouble, sourceTrouble[trouble])
		}
	}
	s := &source{}
	if _, text := s.classify(errors.New("strange")); !strings.Contains(text, "strange") {
		t.Errorf("%q", text)
	}
}
