package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// toolCapture sorts what installing tools changed. Only what the upper folder holds is
// looked at.
type toolCapture struct {
	*toolMaker
	root    *os.Root       // the upper folder
	made    store.Manifest // what the release doesn't have
	changed store.Manifest // what it has in another form
	shadows []string
	bytes   int64 // read so far

	// What scripts did and the layer doesn't show, for people.
	kept     []string // they changed it, and it stays as the release has it
	caches   int      // so do these, which triggers of the release's packages make
	accounts []string // users and groups that they made
	secret   []string // identity and secrets that they made
	odd      []string // sockets and devices
}

// The bounds of what scripts may make: the largest compilers' packages bring a tenth.
const (
	maxMadeFiles = 1_000_000
	maxMadeBytes = 16 << 30 // with what packages bring
)

// walk looks at all that was changed. The entries of the root are sorted in another way
// meanwhile.
func (c *toolCapture) walk(ctx context.Context) error {
	own := c.cfg.Store.Owners()
	layers := KeptLayers{Upper: c.installer.changed(), Root: c.base, Entries: c.below.Manifest, UserXattrs: own.Name() != "",
		Unheld: func(root, f *snapshot.File) { restore(own, root, f) }}
	var err error
	if layers.MountPoints, err = runtime.KeptPoints(c.spec.Upper); err != nil {
		return err
	}
	host, changes, err := c.opts.Layers(layers)
	if err != nil {
		return err
	}
	err = changes(ctx, func(before, after *snapshot.File) error {
		c.see(before, after)
		if len(c.made)+len(c.changed) > maxMadeFiles {
			return fmt.Errorf("there are more than %d files", maxMadeFiles)
		}
		return nil
	})
	closeHost(host)
	c.below.Manifest.Normalize()
	c.made.Normalize()
	if err != nil {
		return fmt.Errorf("reading what was installed: %w", err)
	}
	return nil
}

// see takes one path. before is what the release has there.
func (c *toolCapture) see(before, after *snapshot.File) {
	switch {
	case after == nil && before.Type != snapshot.Dir:
		c.keep(before.Path)
	case after == nil || before != nil && before.Type == snapshot.Dir && after.Type == snapshot.Dir:
	case after.Type != snapshot.Regular && after.Type != snapshot.Symlink && after.Type != snapshot.FIFO && after.Type != snapshot.Dir:
		if !isLitter(after.Path) {
			c.odd = append(c.odd, after.Path)
		}
	case before == nil:
		c.made = append(c.made, asManifest(*after))
	case before.Type != after.Type:
		c.keep(after.Path)
	default:
		c.changed = append(c.changed, asManifest(*after))
	}
}

// asManifest is an entry as a manifest has it.
func asManifest(f snapshot.File) snapshot.File {
	f.Change, f.User, f.Group = snapshot.Stamp{}, "", ""
	if f.Type != snapshot.Regular {
		f.Link, f.Size = "", 0
	}
	if f.Type == snapshot.Symlink {
		f.Mode = 0o777
	}
	if len(f.Xattrs) == 0 || f.Type == snapshot.Symlink {
		f.Xattrs = nil
	}
	return f
}

// sameBut reports whether two entries agree but for times and hard links: installing
// touches what it leaves as it is.
func sameBut(a, b snapshot.File) bool {
	b.MTime, b.Link = a.MTime, a.Link
	return a.Same(b)
}

// keep notes a path of the release that stays as it is there.
func (c *toolCapture) keep(p string) {
	switch {
	case isLitter(p) || mayShadow(p): // nobody misses a record that is gone
	case isTriggered(p):
		c.caches++
	case slices.Contains(accountFiles, p):
		c.accounts = append(c.accounts, c.newAccounts(p)...)
	default:
		c.kept = append(c.kept, p)
	}
}

// delta is what the packages' files don't say. base is what they compose to.
func (c *toolCapture) delta(ctx context.Context) (base *image.Base, d *image.Delta, err error) {
	if c.root, err = os.OpenRoot(c.installer.changed()); err != nil {
		return nil, nil, err
	}
	defer c.root.Close()
	if base, err = c.below.ComposeAbove(c.trees, c.made); err != nil {
		return nil, nil, err
	}
	d = &image.Delta{}
	for _, f := range c.changed {
		if err := c.over(ctx, f, d); err != nil {
			return nil, nil, err
		}
	}
	for _, f := range c.made {
		if err := c.beside(ctx, f, base, d); err != nil {
			return nil, nil, err
		}
	}
	d.Gone = c.gone(base)
	c.parents(d)
	d.Entries.Normalize()
	if c.tools.Delta, err = c.write(ctx, d); err != nil {
		return nil, nil, err
	}
	return base, d, nil
}

// digest completes a regular file.
func (c *toolCapture) digest(ctx context.Context, f *snapshot.File) error {
	if err := ctx.Err(); err != nil || f.Type != snapshot.Regular {
		return err
	}
	if c.bytes += f.Size; c.bytes > maxMadeBytes {
		return fmt.Errorf("reading what was installed: it takes more than %d bytes", int64(maxMadeBytes))
	}
	r, err := c.root.Open(f.Path)
	if err != nil {
		return fmt.Errorf("reading what was installed: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("reading what was installed: %w", err)
	}
	f.Digest = hex.EncodeToString(h.Sum(nil))
	return nil
}

// over takes a path that the release has in another form.
func (c *toolCapture) over(ctx context.Context, f snapshot.File, d *image.Delta) error {
	old, _ := c.below.Manifest.Lookup(f.Path)
	shadow := mayShadow(f.Path) && !isLitter(f.Path)
	if !shadow && !sameBut(old, f) {
		c.keep(f.Path)
		return nil
	}
	if err := c.digest(ctx, &f); err != nil {
		return err
	}
	switch {
	case sameBut(old, f):
	case shadow:
		c.shadows = append(c.shadows, f.Path)
		c.take(f, d)
	default:
		c.keep(f.Path)
	}
	return nil
}

// beside takes a path that the release doesn't have.
func (c *toolCapture) beside(ctx context.Context, f snapshot.File, base *image.Base, d *image.Delta) error {
	g, packaged := base.Manifest.Lookup(f.Path)
	if !packaged && isLitter(f.Path) {
		return nil
	}
	if err := c.digest(ctx, &f); err != nil {
		return err
	}
	if packaged && !c.cfg.Store.Owners().Any() {
		f.UID, f.GID = g.UID, g.GID // the disk can't tell
	}
	if packaged && sameBut(g, f) && !base.Traversed[f.Path] {
		return nil
	}
	if secretPath(c.opts.Rules, f) {
		c.secret = append(c.secret, f.Path)
		return nil
	}
	c.take(f, d)
	return nil
}

// take stores an entry. What was made now has the time of the newest file in any package:
// when this ran is nobody's business.
func (c *toolCapture) take(f snapshot.File, d *image.Delta) {
	if f.Type == snapshot.Regular || f.Type == snapshot.Symlink {
		f.MTime = min(f.MTime, c.newest)
	} else {
		f.MTime = 0
	}
	d.Entries = append(d.Entries, f)
}

// gone are the uppermost paths that packages bring and that aren't there.
func (c *toolCapture) gone(base *image.Base) (gone []string) {
	away := map[string]bool{}
	for _, f := range base.Manifest { // a folder comes before what is in it
		g, there := c.made.Lookup(f.Path)
		if !there {
			_, there = c.below.Manifest.Lookup(f.Path)
		}
		switch {
		case away[path.Dir(f.Path)] || there && f.Type == snapshot.Dir && g.Type != snapshot.Dir && g.Type != 0:
			away[f.Path] = true
		case !there && f.Path != ".":
			away[f.Path] = true
			gone = append(gone, f.Path)
		}
	}
	return gone
}

// parents adds the folders that an unpacked delta has beside its entries.
func (c *toolCapture) parents(d *image.Delta) {
	d.Entries.Normalize()
	seen := map[string]bool{}
	var more store.Manifest
	add := func(p string) {
		for dir := path.Dir(p); !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			if _, ok := d.Entries.Lookup(dir); !ok {
				more = append(more, snapshot.File{Path: dir, Type: snapshot.Dir, Mode: 0o755})
			}
			if dir == "." {
				break
			}
		}
	}
	for _, f := range d.Entries {
		add(f.Path)
	}
	for _, p := range d.Gone {
		add(p)
	}
	d.Entries = append(d.Entries, more...)
}

// write stores the delta.
func (c *toolCapture) write(ctx context.Context, d *image.Delta) (lock.Delta, error) {
	pinned := lock.Delta{Files: len(d.Entries)}
	w, err := c.cfg.Store.NewCompressedBlob()
	if err != nil {
		return pinned, err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	err = d.Write(ctx, w, func(f snapshot.File) (io.ReadCloser, error) { return c.root.Open(f.Path) })
	if err != nil {
		return pinned, err
	}
	pinned.Size = w.Size()
	sum, err := w.Commit(ctx, "")
	pinned.SHA256 = sum.Encoded()
	return pinned, err
}
