package follow

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var log bytes.Buffer
	parses := 0
	parse := func(text []byte, last string) (string, error) {
		parses++
		if string(text) == "bad" {
			return "", errors.New("is bad")
		}
		return last + string(text), nil
	}
	open := func() (*File[string], error) {
		return Open(path, "thing", 8, slog.New(slog.NewTextHandler(&log, nil)), parse)
	}
	_, err := open()
	require.ErrorContains(t, err, "thing: ")
	require.NoError(t, Replace(path, []byte("one")))
	f, err := open()
	require.NoError(t, err)
	require.Equal(t, "one", f.Value())

	// The same text, even written again, is no change; a file that has settled is not read again.
	require.NoError(t, Replace(path, []byte("one")))
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)))
	f.Refresh()
	f.Refresh()
	require.Equal(t, 1, parses)
	require.Equal(t, int64(1), f.Count())

	for _, text := range []string{"bad", "bad", "far too large"} {
		require.NoError(t, Replace(path, []byte(text)))
		f.Refresh()
		require.Equal(t, "one", f.Value())
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("is bad")), "the log says it once")
	require.NoError(t, Replace(path, []byte("two")))
	f.Refresh()
	require.Equal(t, "onetwo", f.Value())
	require.Contains(t, log.String(), "can be used again")
	require.Equal(t, int64(2), f.Count())
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "f"), filepath.Join(dir, "link")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
	require.NoError(t, Replace(path, []byte("new")))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, os.Symlink(path, link))
	require.ErrorContains(t, Replace(link, []byte("x")), "symbolic link")
	require.Error(t, Replace(filepath.Join(dir, "none", "f"), []byte("x")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}
