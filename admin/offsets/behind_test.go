package offsets

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOffsetBehind: an offset is behind if the sync would write it once the mirror had every
// record.
func TestOffsetBehind(t *testing.T) {
	for name, c := range map[string]struct {
		Case
		write bool // as the mirror is now
		want  bool
	}{
		"the same":                            {Case{Source: 10, committed: 10, epoch: -1, End: 20, last: Seen{10, 10}}, false, false},
		"nothing there":                       {Case{Source: 10, committed: -1, epoch: -1, End: 20, last: nothingSeen}, true, true},
		"below":                               {Case{Source: 15, committed: 10, epoch: -1, End: 20, last: Seen{10, 10}}, true, true},
		"set back at the source":              {Case{Source: 5, committed: 10, epoch: -1, End: 20, last: Seen{10, 10}}, true, true},
		"set back, but of another topic":      {Case{Source: 5, committed: 10, epoch: -1, End: 20, last: Seen{10, 10}}, false, false},
		"clamped by klink":                    {Case{Source: 105, committed: 100, epoch: -1, End: 100, last: Seen{105, 100}}, false, true},
		"clamped by klink, before a restart":  {Case{Source: 105, committed: 100, epoch: -1, End: 100, last: nothingSeen}, false, true},
		"ahead at the destination":            {Case{Source: 10, committed: 15, epoch: 3, End: 20, last: Seen{9, -1}}, false, false},
		"reset by a person, rests at source":  {Case{Source: 10, committed: 5, epoch: -1, End: 20, last: Seen{10, -1}}, false, false},
		"reset, and the mirror ends below it": {Case{Source: 10, committed: 5, epoch: -1, End: 7, last: Seen{10, -1}}, false, false},
		"the end is not known":                {Case{Source: 10, committed: -1, epoch: -1, End: -1, last: nothingSeen}, false, true},
		"only the metadata":                   {Case{Source: 10, committed: 10, epoch: -1, End: 20, metadata: true, last: Seen{10, 10}}, true, false},
	} {
		o := &Offset{Case: c.Case, Write: c.write}
		o.To, _ = o.decide()
		require.Equal(t, c.want, o.Behind(), name)
	}
}
