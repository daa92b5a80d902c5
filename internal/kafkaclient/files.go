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

// maxPEM bounds the size of a file that a property names, in bytes.
const maxPEM = 1 << 20

// Files says which files properties may name. The zero value is none at all.
//
// The properties of a link come over the network, from somebody who may not read this machine: of a
// file that they may not name they learn nothing, not even whether it is there.
type Files struct {
	any  bool
	dirs []directory
}

// directory is a directory as it was named, and without symbolic links.
type directory struct{ name, real string }

// operatorFiles are any files: the person who wrote the properties started this process.
var operatorFiles = Files{any: true}

// ErrFile refuses a file that the properties of a link name, whatever is the matter with it.
var ErrFile = errors.New("no such file for links: it must be a regular file of at most 1 MiB in a directory of --link-file-directories, which klink can read; or give the PEM text itself with ssl.truststore.certificates, ssl.keystore.certificate.chain and ssl.keystore.key")

// LinkFiles are the files in dirs and below. An error is about a directory that is none, or not
// named from the root on.
func LinkFiles(dirs []string) (Files, error) {
	var f Files
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			return Files{}, fmt.Errorf("%q does not begin at the root", dir)
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

// Hold says whether links may name the file at path, or a symbolic link to it.
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

// read returns the content of a file that a property names. It waits for nobody: a pipe that a link
// names is refused before it is read.
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

// read opens a regular file in the directory. The path is resolved first and opened below the
// directory then, so that a symbolic link that is changed meanwhile does not lead out.
func (d directory) read(name string) ([]byte, error) {
	if _, ok := below(d.name, filepath.Clean(name)); !ok {
		return nil, ErrFile // without a look at what is there
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
	// Without O_NONBLOCK opening a pipe waits for a writer.
	file, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, ErrFile
	}
	return readAtMost(file)
}

func readAtMost(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = errors.New("larger than 1 MiB")
	}
	return text, err
}

// below is the path of a file within a directory. Both are absolute and clean.
func below(dir, path string) (within string, ok bool) {
	within, err := filepath.Rel(dir, path)
	if err != nil || within == "." || within == ".." || strings.HasPrefix(within, ".."+string(filepath.Separator)) {
		return "", false
	}
	return within, true
}
