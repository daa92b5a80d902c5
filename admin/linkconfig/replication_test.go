package linkconfig

import (
	"testing"
)

func TestAlignmentConfigs(t *testing.T) {
	for _, test := range []struct {
		configs map[string]string
		align   bool
		most    int64
	}{
		{nil, true, 100_000_000},
		{map[string]string{"offset.alignment": "auto", "offset.alignment.max": "5"}, true, 5},
		{map[string]string{"offset.alignment": "off", "offset.alignment.max": "0"}, false, 0},
		{map[string]string{"offset.alignment": "OFF", "offset.alignment.max": "many"}, false, 100_000_000},
		{map[string]string{"offset.alignment.max": "-3"}, true, 0},
	} {
		c := ReplicationOf(test.configs)
		if c.Align != test.align || c.AlignMax != test.most {
			t.Errorf("%v: align %v, at most %d; want %v, %d", test.configs, c.Align, c.AlignMax, test.align, test.most)
		}
	}
}
