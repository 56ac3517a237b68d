package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// Layers are what an overlay is made of.
type Layers struct {
	Upper string // folder of the changes, as the kernel's overlayfs keeps them
	Lower string // the root below, which nobody writes to
	// Entries are all that Lower holds, with the digests of files: what a disk can't
	// hold of it, they do. They become the overlay's.
	Entries []snapshot.File
	// MountPoints are paths that were made in Upper for mounts alone, those of folders
	// with a slash at the end. They aren't there as long as nothing else is in them.
	MountPoints []string
	// UserXattrs says that Upper was written in a user namespace, where overlayfs keeps
	// its own attributes among the users' ("userxattr").
	UserXattrs bool
	Live       snapshot.Live
	// Unheld, where given, mends what the disk can't hold of an entry of Upper. below is
	// the one of Lower at that path, or nil.
	Unheld func(below, f *snapshot.File)
}

// Overlay is a host that was never mounted as a whole: a root, and the changes to it
// that an overlay kept. Both are read as they lie, so that it takes no right to mount
// anything; docs: Documentation/filesystems/overlayfs.rst.
type Overlay struct {
	upper, lower *Dir
	top          snapshot.File   // the lower root itself
	entries      []snapshot.File // all others, in the order of a walk
	made         map[string]bool // mount points that nothing is in
	prefix       string          // of the attributes that overlayfs keeps for itself
	live         snapshot.Live
	unheld       func(below, f *snapshot.File)
}

var _ snapshot.Host = (*Overlay)(nil)

// OpenOverlay opens an overlay as a host.
func OpenOverlay(l Layers) (*Overlay, error) {
	o := &Overlay{made: map[string]bool{}, prefix: "trusted.overlay.", live: l.Live, unheld: l.Unheld}
	if o.unheld == nil {
		o.unheld = func(_, _ *snapshot.File) {}
	}
	if l.UserXattrs {
		o.prefix = "user.overlay."
	}
	slices.SortFunc(l.Entries, func(a, b snapshot.File) int { return walkOrder(a.Path, b.Path) })
	o.entries = l.Entries
	if len(o.entries) > 0 && o.entries[0].Path == "." {
		o.top, o.entries = o.entries[0], o.entries[1:]
	}
	for i := range o.entries {
		o.entries[i].Change = lowerStamp(&o.entries[i])
	}
	var err error
	if o.upper, err = Folder(l.Upper); err != nil {
		return nil, err
	}
	if o.lower, err = Folder(l.Lower); err == nil {
		err = o.findMade(l.MountPoints)
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Close releases both folders.
func (o *Overlay) Close() error {
	err := o.upper.Close()
	if o.lower != nil {
		err = errors.Join(err, o.lower.Close())
	}
	return err
}

// Live implements snapshot.Host: it is what was known of the lower root's host.
func (o *Overlay) Live(context.Context) (snapshot.Live, error) { return o.live, nil }

// find looks for an entry of the lower root. below are those that lie in it.
func (o *Overlay) find(p string) (f *snapshot.File, below []snapshot.File) {
	if p == "." {
		return &o.top, o.entries
	}
	i, ok := slices.BinarySearchFunc(o.entries, p, func(f snapshot.File, p string) int { return walkOrder(f.Path, p) })
	if !ok {
		return nil, nil
	}
	return &o.entries[i], o.entries[i+1 : i+1+inside(o.entries[i+1:], p)]
}

// inside counts the entries at the beginning of a walk that lie in a folder.
func inside(entries []snapshot.File, dir string) int {
	n, _ := slices.BinarySearchFunc(entries, dir, func(f snapshot.File, dir string) int {
		if strings.HasPrefix(f.Path, dir) && len(f.Path) > len(dir) && f.Path[len(dir)] == '/' {
			return -1
		}
		return 1
	})
	return n
}

// findMade finds out which mount points are still nothing else.
func (o *Overlay) findMade(points []string) error {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b string) int { return len(b) - len(a) }) // what is inside comes first
	at := parents{root: o.upper.root}
	defer at.close()
	for _, point := range points {
		p, folder := strings.CutSuffix(point, "/")
		if !snapshot.ValidPath(p) || p == "." {
			return fmt.Errorf("opening %s: bad mount point %q", o.upper.name, point)
		}
		dir, name := split(p)
		parent, err := at.open(dir)
		if absent(err) {
			continue
		}
		if err == nil && folder {
			err = o.emptyFolder(parent, name, p)
		} else if err == nil {
			err = o.emptyFile(parent, name, p)
		}
		if err != nil && !absent(err) {
			return fmt.Errorf("reading %s/%s: %w", o.upper.name, p, err)
		}
	}
	return nil
}

func (o *Overlay) emptyFile(parent int, name, p string) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
		o.made[p] = true
	}
	return err
}

func (o *Overlay) emptyFolder(parent int, name, p string) error {
	fd, err := openQuiet(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), p)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err == nil {
		o.made[p] = !slices.ContainsFunc(names, func(n string) bool { return !o.made[p+"/"+n] })
	}
	return err
}

// kind is what an entry of the upper folder stands for.
type kind int

const (
	shows  kind = iota // itself
	covers             // a whiteout: nothing is there, whatever lies below
	alone              // an opaque folder: nothing below is seen through it
)

// errLayers says that an upper folder was made with options that stead never gives.
var errLayers = errors.New("an overlay of another kind kept only a part of it")

// look tells what an entry of the upper folder is. name is one of the folder open at
// parent.
func (o *Overlay) look(parent int, name string) (st unix.Stat_t, k kind, err error) {
	_, err = retry(func() (int, error) {
		return 0, unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	})
	if err != nil {
		return st, shows, err
	}
	path := procFD(parent) + "/" + name
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			k = covers
		}
	case unix.S_IFREG:
		if err = o.lacks(path, "metacopy"); err == nil && st.Size == 0 {
			var there bool
			if _, there, err = o.attribute(path, "whiteout"); there {
				k = covers
			}
		}
	case unix.S_IFDIR:
		if err = o.lacks(path, "redirect"); err == nil {
			var value string
			if value, _, err = o.attribute(path, "opaque"); value == "y" {
				k = alone
			}
		}
	}
	return st, k, err
}

// lacks makes it an error that an entry has an attribute.
func (o *Overlay) lacks(path, name string) error {
	_, there, err := o.attribute(path, name)
	if there {
		return errLayers
	}
	return err
}

// attribute reads one of those that overlayfs keeps for itself.
func (o *Overlay) attribute(path, name string) (value string, there bool, err error) {
	b := make([]byte, 16)
	n, err := retry(func() (int, error) { return unix.Lgetxattr(path, o.prefix+name, b) })
	switch err {
	case nil:
		return string(b[:n]), true, nil
	case unix.ERANGE:
		return "", true, nil
	case unix.ENODATA, unix.ENOTSUP:
		return "", false, nil
	}
	return "", false, err
}
