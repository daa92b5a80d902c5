package main

import (
	"bytes"
	"os"
	"testing"
)

// The table in protocol is up to date with the version of kmsg in go.mod.
func TestTableIsCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../protocol/shapes.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("protocol/shapes.go is not what kmsg decodes: run go generate ./protocol")
	}
}
