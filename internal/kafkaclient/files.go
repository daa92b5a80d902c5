package kafkaclient

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxStore bounds the size of a file that a property names, in bytes.
const maxStore = 1 << 20

// Files says which files properties may name, and what else of this machine they may use: see
// link_grants.go. The zero value allows none.
//
// The properties of a link come over the network, from somebody who may not be allowed to read this
// machine's files. Errors tell them nothing about a file that they may not name, not even whether
// it exists.
type Files struct {
	any       bool
	dirs      []directory
	endpoints []string // token endpoints
	aws       bool     // this machine's AWS credentials
}

// directory is a directory by its configured name, and with symbolic links resolved.
type directory struct{ name, real string }

// operatorFiles allows any file: the person who wrote the properties also started this process.
var operatorFiles = Files{any: true}

// ErrFile refuses a file that a link's properties name. It is the same error whatever the cause, so
// that it tells nothing about the file.
var ErrFile = errors.New("links cannot use this file: it must be a regular file of at most 1 MiB in one of klink's --link-file-directories, and klink must be able to read it; or give the PEM text itself with ssl.truststore.certificates, ssl.keystore.certificate.chain and ssl.keystore.key")

// LinkFiles allows the files in dirs and below. Each of dirs must be an existing directory, named
// by an absolute path; if not, the error says which is wrong.
func LinkFiles(dirs []string) (Files, error) {
	var f Files
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			return Files{}, fmt.Errorf("%q is not an absolute path", dir)
		}
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return Files{}, err
		}
		if info, err := os.Stat(real); err != nil {
			return Files{}, err
		} else if !info.IsDir() {
			return Files{}, fmt.Errorf("%s is not a directory", dir)
		}
		f.dirs = append(f.dirs, directory{filepath.Clean(dir), real})
	}
	return f, nil
}

// Hold reports whether links may name the file at path, or a symbolic link to it.
func (f Files) Hold(path string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return true
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for _, d := range f.dirs {
		if _, ok := below(d.real, path); ok {
			return true
		}
	}
	return f.any
}

// LoginFile is a file with a key or a token, and the property that names it.
type LoginFile struct{ Property, Path string }

// LoginFiles returns the files that the properties log in with: whoever can use one of them can log
// in as the same.
func (p Properties) LoginFiles() (files []LoginFile) {
	for _, f := range []LoginFile{
		{"ssl.keystore.location", p["ssl.keystore.location"]},
		{"ssl.key.location", p["ssl.key.location"]},
		{keyTokenEndpoint, p.tokenPath()},
	} {
		if f.Path != "" {
			files = append(files, f)
		}
	}
	return files
}

// read returns the content of a file that a property names. It never blocks: it refuses a pipe that
// a link names before reading from it.
func (f Files) read(name string) ([]byte, error) {
	if f.any {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return readAtMost(file)
	}
	for _, d := range f.dirs {
		if text, err := d.read(name); err == nil {
			return text, nil
		}
	}
	return nil, ErrFile
}

// stat describes a file that a property names. Like read, it does not block.
func (f Files) stat(name string) (os.FileInfo, error) {
	if f.any {
		return os.Stat(name)
	}
	for _, d := range f.dirs {
		if info, err := d.stat(name); err == nil {
			return info, nil
		}
	}
	return nil, ErrFile
}

func (d directory) read(name string) ([]byte, error) {
	file, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readAtMost(file)
}

func (d directory) stat(name string) (os.FileInfo, error) {
	file, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

// open opens a regular file in the directory. It resolves the path first and then opens the result
// relative to the directory. So a symbolic link that changes in between cannot lead outside.
func (d directory) open(name string) (*os.File, error) {
	if _, ok := below(d.name, filepath.Clean(name)); !ok {
		return nil, ErrFile // without touching the file
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, err
	}
	path, ok := below(d.real, real)
	if !ok {
		return nil, ErrFile
	}
	root, err := os.OpenRoot(d.real)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Without O_NONBLOCK, opening a pipe would wait for a writer.
	file, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrFile
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func readAtMost(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxStore+1))
	if err == nil && len(text) > maxStore {
		err = errors.New("larger than 1 MiB")
	}
	return text, err
}

// below returns the path of a file relative to a directory. Both are absolute and clean.
func below(dir, path string) (within string, ok bool) {
	within, err := filepath.Rel(dir, path)
	if err != nil || within == "." || within == ".." || strings.HasPrefix(within, ".."+string(filepath.Separator)) {
		return "", false
	}
	return within, true
}
