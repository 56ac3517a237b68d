package envs

import (
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/stead-env/stead/runtime"
)

// rootView is a root filesystem as a process in it sees it: its links lead inside,
// wherever they say.
type rootView struct {
	dir  string
	root *os.Root
}

func viewRoot(dir string) (rootView, error) {
	root, err := os.OpenRoot(dir)
	return rootView{dir, root}, err
}

func (v rootView) close() { v.root.Close() }

// find follows the links of a path and says what is at their end; info is nil where
// there is nothing.
func (v rootView) find(name string) (at string, info fs.FileInfo) {
	at, err := runtime.Resolve(v.dir, name)
	if err != nil {
		return name, nil
	}
	info, err = v.root.Lstat(relative(at))
	if err != nil {
		return at, nil
	}
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
	f, err := v.root.Open(relative(at))
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
