package session

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Changed counts the files that a session made, changed or removed, by the upper
// folder of its overlay and the lower ones, the topmost first: of a folder that was
// removed or made anew, all files in it. The paths in made, which became mount points,
// are not counted. A folder that is too deep for a path counts as one file.
func Changed(upper *os.Root, made []string, lower ...string) (int, error) {
	wrap := func(err error) error { return fmt.Errorf("counting what the session changed: %w", err) }
	c := counter{upper: upper, made: map[string]bool{}}
	for _, p := range made {
		c.made[p] = true
	}
	for _, dir := range lower {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return 0, wrap(err)
		}
		defer root.Close()
		c.lower = append(c.lower, root)
	}
	top, err := upper.Open(".")
	if err != nil {
		return 0, wrap(err)
	}
	if top, err = c.folder(top, ""); err != nil {
		return 0, wrap(err)
	}
	top.Close()
	return c.n, nil
}

type counter struct {
	upper *os.Root
	lower []*os.Root
	made  map[string]bool
	n     int
}

// folder counts in the folder p, which is open. It holds one descriptor however deep
// the folders in it go, and so comes back with another one for p.
func (c *counter) folder(dir *os.File, p string) (*os.File, error) {
	inner, err := c.files(dir, p)
	for _, name := range inner {
		if err != nil {
			break
		}
		if place := path.Join(p, name); len(place) < unix.PathMax {
			dir, err = c.inner(dir, name, place)
		} else {
			c.n++
		}
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// files counts the files in a folder, and returns the names of its folders.
func (c *counter) files(dir *os.File, p string) (inner []string, err error) {
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			var st unix.Stat_t
			if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return nil, fmt.Errorf("reading %s: %w", path.Join(p, name), err)
			}
			place := path.Join(p, name)
			switch kind := st.Mode & unix.S_IFMT; {
			case kind == unix.S_IFDIR:
				inner = append(inner, name)
			case c.made[place]:
			case kind == unix.S_IFCHR && st.Rdev == 0: // a whiteout
				if err := c.below(place, false); err != nil {
					return nil, err
				}
			default:
				c.n++
			}
		}
		if err == io.EOF {
			return inner, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// inner counts in a folder of dir, and takes the way back to dir.
func (c *counter) inner(dir *os.File, name, p string) (*os.File, error) {
	was, err := dir.Stat()
	if err != nil {
		return dir, err
	}
	sub, err := openIn(dir, name, p)
	if err != nil {
		return dir, err
	}
	dir.Close()
	if opaque(sub) {
		err = c.below(p, true)
	}
	if err != nil {
		return sub, err
	}
	if sub, err = c.folder(sub, p); err != nil {
		return nil, err
	}
	defer sub.Close()
	back, err := openIn(sub, "..", path.Dir(p))
	if err != nil {
		return nil, err
	}
	if is, err := back.Stat(); err != nil || !os.SameFile(was, is) {
		return back, errors.Join(err, fmt.Errorf("%s moved meanwhile", p))
	}
	return back, nil
}

func openIn(dir *os.File, name, p string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return os.NewFile(uintptr(fd), p), nil
}

// opaque reports whether a folder hides the lower one of its name.
func opaque(dir *os.File) bool {
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
		info, err := root.Lstat(p)
		if err != nil {
			continue
		}
		if !info.IsDir() { // a walk would follow a link
			c.n++
			return nil
		}
		return fs.WalkDir(root.FS(), p, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if again {
				_, err := c.upper.Lstat(p)
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
