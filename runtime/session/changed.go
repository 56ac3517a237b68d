package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Changed counts the files that a session made, changed or removed, by the upper
// folder of its overlay and the lower ones, the topmost first: of a folder that was
// removed or made anew, all files in it. The paths in made, which became mount points,
// are not counted.
func Changed(upper fs.FS, made []string, lower ...string) (int, error) {
	c := counter{upper: upper, made: map[string]bool{}}
	for _, p := range made {
		c.made[p] = true
	}
	for _, dir := range lower {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return 0, fmt.Errorf("counting what the session changed: %w", err)
		}
		defer root.Close()
		c.lower = append(c.lower, root)
	}
	if err := fs.WalkDir(upper, ".", c.visit); err != nil {
		return 0, fmt.Errorf("counting what the session changed: %w", err)
	}
	return c.n, nil
}

type counter struct {
	upper fs.FS
	lower []*os.Root
	made  map[string]bool
	n     int
}

func (c *counter) visit(p string, d fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case d.IsDir():
		if p != "." && c.opaque(p) {
			return c.below(p, true)
		}
		return nil
	case c.made[p]:
		return nil
	case d.Type()&fs.ModeCharDevice != 0:
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Rdev == 0 { // a whiteout
			return c.below(p, false)
		}
	}
	c.n++
	return nil
}

// opaque reports whether a folder hides the lower one of its name.
func (c *counter) opaque(p string) bool {
	f, err := c.upper.Open(p)
	if err != nil {
		return false
	}
	defer f.Close()
	dir, ok := f.(*os.File)
	if !ok {
		return false
	}
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		value := make([]byte, 1)
		if n, err := unix.Fgetxattr(int(dir.Fd()), name, value); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

// below counts the files that are gone with p: in its folder, or itself. Those that
// the session made again are counted where they are.
func (c *counter) below(p string, again bool) error {
	for _, root := range c.lower {
		if _, err := root.Lstat(p); err != nil {
			continue
		}
		return fs.WalkDir(root.FS(), p, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if again {
				_, err := fs.Lstat(c.upper, p)
				if err == nil {
					return nil
				}
				if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
					return err
				}
			}
			c.n++
			return nil
		})
	}
	if !again && len(c.lower) == 0 {
		c.n++
	}
	return nil
}
