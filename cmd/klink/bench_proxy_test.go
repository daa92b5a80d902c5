package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBenchProxyArguments: arguments that cannot be measured are refused before a broker is
// started.
func TestBenchProxyArguments(t *testing.T) {
	for line, problem := range map[string]string{
		"bench proxy more":                              `unexpected argument "more"`,
		"bench proxy --rounds 0":                        "0 rounds: at least 1",
		"bench proxy --subject nginx":                   `subject "nginx": have direct, klink, haproxy, relay`,
		"bench proxy --workload produce":                `workload "produce": want`,
		"bench proxy --rounds many":                     "invalid argument",
		"bench relay":                                   "--to HOST:PORT is missing",
		"bench relay --to 127.0.0.1:1 --listen nowhere": "listen on nowhere",
	} {
		var out, failed bytes.Buffer
		a := &app{in: strings.NewReader(""), out: &out, err: &failed, configDir: t.TempDir()}
		require.NotZero(t, a.run(t.Context(), strings.Fields(line)), line)
		require.Contains(t, failed.String(), problem, line)
	}
}

func TestQuotedArguments(t *testing.T) {
	require.Equal(t, []string{"bench", `"idle x10"`, "--quick"}, quoted([]string{"bench", "idle x10", "--quick"}))
}
