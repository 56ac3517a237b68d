package chroot

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// layers are folders that make one tree, the topmost first, as overlay sees them.
type layers []string

// dirs are the folders that together are the one at a place, the topmost first.
func (l layers) dirs(at string) []string {
	var found []string
	for _, layer := range l {
		dir, last, ok := within(layer, at)
		if ok {
			found = append(found, dir)
		}
		if last {
			break
		}
	}
	return found
}

// within goes down one layer to the folder at a place. ok is false where it isn't
// there, and last is true where the layer hides those below it.
func within(layer, at string) (dir string, last, ok bool) {
	dir = layer
	for name := range strings.SplitSeq(at, "/") {
		if name == "" {
			continue
		}
		dir = filepath.Join(dir, name)
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil {
			return dir, last, false
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return dir, true, false
		}
		if fd, err := openDir(dir); err == nil {
			last = last || opaque(fd)
			unix.Close(fd)
		}
	}
	return dir, last, true
}

// find returns the path of what a name in such folders stands for; "" for nothing.
func find(dirs []string, name string) string {
	for _, dir := range dirs {
		var st unix.Stat_t
		p := filepath.Join(dir, name)
		switch err := unix.Lstat(p, &st); {
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
			return ""
		case err == nil:
			return p
		}
	}
	return ""
}

// names are all names in such folders.
func names(dirs []string) ([]string, error) {
	seen := map[string]bool{}
	var list []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if seen[e.Name()] {
				continue
			}
			seen[e.Name()] = true
			if e.Type()&fs.ModeCharDevice != 0 && find([]string{dir}, e.Name()) == "" {
				continue // a whiteout
			}
			list = append(list, e.Name())
		}
	}
	return list, nil
}
