package credentials

import (
	"log/slog"
	"maps"

	"klink/internal/follow"
	"klink/internal/kafkaclient"
)

// maxFile bounds the size of the file in bytes.
const maxFile = 16 << 20

// Entry says as whom klink logs in for one principal.
type Entry struct {
	// Destination is the login at the destination's brokers.
	Destination kafkaclient.Credential
	// Sources are the properties of the login at the sources of links, by the name of the link.
	Sources map[string]kafkaclient.Properties

	own map[string]string // what the file says for the destination
}

// Map is the credential map, and follows its file. Safe for concurrent use.
type Map struct {
	file *follow.File[map[string]*Entry]
}

// Open reads the map. reach are the properties by which klink itself connects to the destination;
// the map takes from them how to reach and to check brokers, and no login. shared reports whether
// links may use a file; the map may name no such file.
func Open(path string, reach kafkaclient.Properties, shared func(path string) bool, log *slog.Logger) (*Map, error) {
	nobody := reach.Nobody()
	file, err := follow.Open(path, "credential map", maxFile, log, func(text []byte, last map[string]*Entry) (map[string]*Entry, error) {
		follow.Private(path, log)
		entries, err := parse(text, nobody, shared)
		if err != nil {
			return nil, err
		}
		// An entry that says what it said before stays the same, so that connections that were made
		// with it may stay.
		for principal, entry := range entries {
			if before := last[principal]; before != nil && before.same(entry) {
				entries[principal] = before
			}
		}
		return entries, nil
	})
	if err != nil {
		return nil, err
	}
	return &Map{file: file}, nil
}

func (e *Entry) same(as *Entry) bool {
	return maps.Equal(e.own, as.own) && maps.EqualFunc(e.Sources, as.Sources, maps.Equal[kafkaclient.Properties])
}

// Lookup returns the entry of a principal, as TYPE:NAME; nil if there is none.
func (m *Map) Lookup(principal string) *Entry { return m.file.Value()[principal] }

// Refresh reads the file if it has changed. It returns a number that is another one if entries may
// have changed, whoever refreshed the map.
func (m *Map) Refresh() int64 {
	m.file.Refresh()
	return m.file.Count()
}
