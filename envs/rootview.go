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
	upper *os.Root   // nil where nothing is kept
	lower []*os.Root // between the two, the topmost first
}

// viewRoot opens a root, and over it the upper folder of a kept session, "" for none,
// with layers between them.
func viewRoot(dir, upper string, lower ...string) (v rootView, err error) {
	v.dir = dir
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.root, err = os.OpenRoot(dir); err != nil {
		return v, err
	}
	for _, l := range lower {
		layer, err := os.OpenRoot(l)
		if err != nil {
			return v, err
		}
		v.lower = append(v.lower, layer)
	}
	if upper == "" {
		return v, nil
	}
	v.upper, err = os.OpenRoot(filepath.Join(upper, keptUpper))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return v, err
}

func (v rootView) close() {
	for _, r := range append([]*os.Root{v.root, v.upper}, v.lower...) {
		if r != nil {
			r.Close()
		}
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
	for _, layer := range append(v.lower[:len(v.lower):len(v.lower)], v.root) {
		if info, err := layer.Lstat(relative(at)); err == nil {
			return layer, info
		}
	}
	return nil, nil
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
