package envs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/runtime"
)

// rootView is a root filesystem as a process in it sees it: its links lead inside,
// wherever they say. Files that a kept session changed are the session's.
type rootView struct {
	dir   string
	root  *os.Root
	upper *os.Root // nil where nothing is kept
}

// viewRoot opens a root, and over it the upper folder of a kept session, "" for none.
func viewRoot(dir, upper string) (v rootView, err error) {
	v.dir = dir
	if v.root, err = os.OpenRoot(dir); err != nil || upper == "" {
		return v, err
	}
	v.upper, err = os.OpenRoot(filepath.Join(upper, keptUpper))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.root.Close()
		return v, err
	}
	return v, nil
}

func (v rootView) close() {
	v.root.Close()
	if v.upper != nil {
		v.upper.Close()
	}
}

// layer is where a path without links is found.
func (v rootView) layer(at string) (*os.Root, fs.FileInfo) {
	if v.upper != nil {
		switch info, err := v.upper.Lstat(relative(at)); {
		case err == nil && info.Mode()&fs.ModeCharDevice != 0:
			return nil, nil // removed
		case err == nil && !info.IsDir():
			return v.upper, info
		}
	}
	info, err := v.root.Lstat(relative(at))
	if err != nil {
		return nil, nil
	}
	return v.root, info
}

// find follows the links of a path and says what is at their end; info is nil where
// there is nothing.
func (v rootView) find(name string) (at string, info fs.FileInfo) {
	at, err := runtime.Resolve(v.dir, name)
	if err != nil {
		return name, nil
	}
	_, info = v.layer(at)
	return at, info
}

func (v rootView) has(name string) bool {
	_, info := v.find(name)
	return info != nil
}

// program reports whether there is a file that may be executed.
func (v rootView) program(name string) bool {
	_, info := v.find(name)
	return info != nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// read reads a small file; it is nil where there is none.
func (v rootView) read(name string) []byte {
	at, info := v.find(name)
	if info == nil || !info.Mode().IsRegular() {
		return nil
	}
	layer, _ := v.layer(at)
	f, err := layer.Open(relative(at))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return nil
	}
	return data
}

// filled reports whether there is something in a folder.
func (v rootView) filled(dir string) bool {
	at, info := v.find(dir)
	if info == nil || !info.IsDir() {
		return false
	}
	f, err := v.root.Open(relative(at))
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

// relative is a path inside as os.Root takes it.
func relative(p string) string {
	if p = strings.TrimLeft(p, "/"); p != "" {
		return p
	}
	return "."
}
