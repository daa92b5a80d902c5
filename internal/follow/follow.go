// Package follow keeps what klink has read from a file as new as the file.
package follow

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// settled is how old a file has to be before its time of change tells it from what it becomes next:
// file systems count in steps, and two changes may fall into one.
const settled = 2 * time.Second

// Interval is how often klink looks whether a file has changed that something depends on at once.
const Interval = time.Second

// File is a value that follows a file. If the file changes to something that cannot be used, the
// value stays as it was, and the log says so once. Safe for concurrent use.
type File[T any] struct {
	path, what string
	most       int64
	parse      func(text []byte, last T) (T, error)
	log        *slog.Logger

	value atomic.Pointer[T]
	count atomic.Int64

	mu      sync.Mutex
	info    os.FileInfo
	settled bool
	sum     [sha256.Size]byte
	trouble string // what the log was told last
}

// Open reads a file of at most so many bytes. what names the file in errors and in the log. parse
// gets the value that was in force before, the zero value at first; its errors must show no secret.
func Open[T any](path, what string, most int64, log *slog.Logger, parse func(text []byte, last T) (T, error)) (*File[T], error) {
	f := &File[T]{path: path, what: what, most: most, parse: parse, log: log}
	f.value.Store(new(T))
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Value returns what the file said when it was last read and could be used.
func (f *File[T]) Value() T { return *f.value.Load() }

// Count returns how many values there have been: whoever did not refresh the file itself learns
// from it that somebody else has.
func (f *File[T]) Count() int64 { return f.count.Load() }

// Refresh reads the file if it has changed.
func (f *File[T]) Refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.settled && os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime()) {
		return
	}
	changed, err := f.load()
	switch {
	case err != nil && err.Error() != f.trouble:
		f.trouble = err.Error()
		f.log.Error("a file has changed and cannot be used: klink goes on with what it has read before", "file", f.path, "error", err)
	case err == nil && f.trouble != "":
		f.trouble = ""
		f.log.Info("a file can be used again", "file", f.path)
	case changed:
		f.log.Info("a file has changed, and klink has read it again", "file", f.path)
	}
}

// load reads the file. It looks at the file first, so that a change while it reads is seen later.
func (f *File[T]) load() (changed bool, err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.what, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.what, err)
	}
	quiet := time.Since(info.ModTime()) > settled
	text, err := io.ReadAll(io.LimitReader(file, f.most+1))
	if err == nil && int64(len(text)) > f.most {
		err = fmt.Errorf("larger than %d bytes", f.most)
	}
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", f.what, f.path, err)
	}
	sum := sha256.Sum256(text)
	if f.info != nil && sum == f.sum {
		f.info, f.settled = info, quiet
		return false, nil
	}
	value, err := f.parse(text, f.Value())
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", f.what, f.path, err)
	}
	f.value.Store(&value)
	f.count.Add(1)
	f.info, f.settled, f.sum = info, quiet, sum
	return true, nil
}

// Private warns if others than the owner and the group may read a file, which holds secrets.
func Private(path string, log *slog.Logger) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		log.Warn("everybody on this machine may use a file with secrets: change its mode to 0600", "file", path, "mode", info.Mode().Perm().String())
	}
}

// Replace writes a file with mode 0600, in one step: whoever reads it finds the old text or the new
// one, and a crash leaves one of them.
func Replace(path string, text []byte) (err error) {
	if link, err := os.Readlink(path); err == nil && link != "" {
		return errors.New("it is a symbolic link: name the file itself")
	}
	temporary := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
