package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/store"
)

// young is how long things stay in the store that no lock of the fleet names:
// a snapshot or pull may be about to use them.
const young = time.Hour

// Collected is what GC removed, or would remove.
type Collected struct {
	Roots  int `json:"roots"`
	Layers int `json:"layers"` // of tools
	Trees  int `json:"trees"`
	Blobs  int `json:"blobs"`
	Views  int `json:"views"`
	// Sole counts blobs that no lock of the fleet names and that exist nowhere else;
	// they stay.
	Sole int `json:"sole"`
	// Sessions are kept ones that stand on releases which the fleet doesn't have; what
	// those need stays.
	Sessions []string `json:"sessions"`
}

// GC removes from the store what neither a release of the fleet needs nor the tools of a
// project that was worked with here, and the views of projects that are gone. It never takes the only copy of a blob, nor a root that
// a session stands on. With dry nothing is removed.
func GC(ctx context.Context, cfg Config, dry bool) (Collected, error) {
	c := collector{st: cfg.Store, cfg: cfg, dry: dry, keep: map[string]bool{}}
	if err := errors.Join(c.mark(cfg.Fleet), c.kept(ctx), c.projects()); err != nil {
		return c.done, err
	}
	err := errors.Join(
		c.items(ctx, store.Roots, &c.done.Roots),
		c.items(ctx, store.Layers, &c.done.Layers),
		c.items(ctx, store.Trees, &c.done.Trees),
		c.blobs(ctx),
		c.views(ctx))
	if err != nil {
		return c.done, fmt.Errorf("clearing store %s: %w", cfg.Store.Dir(), err)
	}
	return c.done, nil
}

// Forget drops a blob even where it is the only copy.
func Forget(cfg Config, d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("forgetting %q: %w", d, err)
	}
	if !cfg.Store.HasBlob(d) {
		return &store.MissingError{Digest: d}
	}
	if err := errors.Join(cfg.Store.DropBlob(d), cfg.Store.Shared(d)); err != nil {
		return fmt.Errorf("forgetting %s: %w", d, err)
	}
	return nil
}

type collector struct {
	st   *store.Store
	cfg  Config
	dry  bool
	keep map[string]bool // "roots/NAME", "trees/NAME", "blobs/HEX"
	done Collected
}

// mark notes all that the fleet's locks name.
func (c *collector) mark(f *Fleet) error {
	targets, err := f.Targets()
	if err != nil {
		return err
	}
	for _, target := range targets {
		releases, err := f.Releases(target)
		if err != nil {
			return err
		}
		for _, rel := range releases {
			if _, err := c.release(rel); err != nil {
				return err // what can't be read may need anything
			}
		}
	}
	return nil
}

// release notes all that a release needs. It reports whether that was known.
func (c *collector) release(rel Release) (known bool, err error) {
	l, err := rel.Lock()
	if err != nil {
		return false, err
	}
	id, err := rel.Identity()
	if err != nil {
		return false, err
	}
	root := "roots/" + RootName(id)
	known, c.keep[root] = c.keep[root], true
	index := l.Index
	if index == nil {
		index = rememberedIndex(c.st, id)
		if index != nil {
			c.keep["blobs/"+index.SHA256] = true
		}
	}
	chunks, _ := indexChunks(c.cfg, index) // where they can't be told there is another copy, or they are sole ones
	for _, d := range append(ownBlobs(l), chunks...) {
		c.keep["blobs/"+d.Encoded()] = true
	}
	c.keep["trees/"+l.Delta.SHA256] = true
	for _, p := range l.Packages {
		c.keep["blobs/"+p.SHA256], c.keep["trees/"+image.TreeName(p)] = true, true
	}
	return known, nil
}

// projects notes what the tools of projects need that were worked with here. A stead.lock
// that can't be read needs nothing: what there was of it can be made again.
func (c *collector) projects() error {
	views, err := filepath.Glob(filepath.Join(c.st.Dir(), "views", "*"))
	if err != nil {
		return err
	}
	for _, dir := range views {
		remembered, err := filepath.Glob(filepath.Join(dir, "*", keptTools, "*.lock"))
		if err != nil {
			return err
		}
		if project, err := readBounded(filepath.Join(dir, "project"), 1<<16); err == nil {
			remembered = append(remembered, filepath.Join(string(project), ProjectLockFile))
		}
		for _, path := range remembered {
			data, err := readBounded(path, maxProjectLock)
			if err != nil {
				continue
			}
			if l, err := parseProjectLock(path, data); err == nil {
				for _, t := range l.Targets {
					c.tools(t.Lock, t.Tools)
				}
			}
		}
	}
	return nil
}

// tools notes what tools need that were added to the release with that identity.
func (c *collector) tools(identity digest.Digest, t *ChosenTools) {
	if t == nil || len(t.Packages) == 0 {
		return
	}
	tools := t.Tools()
	c.keep["layers/"+LayerName(identity, tools)] = true
	for _, d := range ownToolBlobs(tools) {
		c.keep["blobs/"+d.Encoded()] = true
	}
	c.keep["trees/"+t.Delta.SHA256] = true
	for _, p := range tools.Packages {
		c.keep["blobs/"+p.SHA256], c.keep["trees/"+image.TreeName(p)] = true, true
	}
}

// kept notes what named sessions stand on. It removes those that were being begun when
// stead was killed.
func (c *collector) kept(ctx context.Context) error {
	names, err := KeptNames(c.st)
	if err != nil {
		return err
	}
	c.done.Sessions = []string{}
	for _, name := range names {
		k := &Kept{Name: name, st: c.st, dir: keptPath(c.st, name)}
		if err := k.load(); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err // it may stand on anything
		}
		known, err := c.release(k.Release())
		if err != nil {
			return err
		}
		tools, err := k.tools()
		if err != nil {
			return err
		}
		c.tools(k.record.Identity, tools)
		if !known {
			c.done.Sessions = append(c.done.Sessions, name+" ("+k.Release().String()+")")
		}
	}
	return c.each(ctx, keptDir, func(name string) error {
		held, err := flockFolder(keptPath(c.st, name), unix.LOCK_EX)
		if err != nil || held == nil {
			return nil //nolint:nilerr // it is in use
		}
		defer held.Close()
		if _, err := os.Lstat(filepath.Join(held.Name(), keptFile)); !errors.Is(err, fs.ErrNotExist) || c.dry {
			return err
		}
		return c.st.Drop(keptDir, name)
	})
}

func (c *collector) items(ctx context.Context, kind string, count *int) error {
	return c.each(ctx, kind, func(entry string) error {
		name, mapping := store.Parse(entry)
		kept := c.keep[kind+"/"+name]
		switch own := c.st.Owners().Name(); {
		case mapping == own:
		case strings.HasPrefix(mapping, store.Single): // the user's own files, as snapshots need trees
			kept = kept && kind == store.Trees
		default: // of another machine that shares this store, with files of other ids
			return nil
		}
		if kept {
			return nil
		}
		free, release, err := unused(filepath.Join(c.st.Dir(), kind, entry))
		if err != nil || !free {
			return err
		}
		defer release()
		*count++
		if c.dry {
			return nil
		}
		return c.st.Drop(kind, entry)
	})
}

func (c *collector) blobs(ctx context.Context) error {
	return c.each(ctx, "blobs/sha256", func(name string) error {
		hex := strings.TrimSuffix(name, ".zst")
		d := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if c.keep["blobs/"+hex] || d.Validate() != nil {
			return nil
		}
		if c.st.IsSole(d) {
			c.done.Sole++
			return nil
		}
		c.done.Blobs++
		if c.dry {
			return nil
		}
		return c.st.DropBlob(d)
	})
}

// views removes the views of projects that are gone.
func (c *collector) views(ctx context.Context) error {
	return c.each(ctx, "views", func(name string) error {
		dir := filepath.Join(c.st.Dir(), "views", name)
		project, err := readBounded(filepath.Join(dir, "project"), 1<<16)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := os.Lstat(string(project)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		c.done.Views++
		if c.dry {
			return nil
		}
		return os.RemoveAll(dir)
	})
}

// each calls fn for what is old enough in a folder of the store.
func (c *collector) each(ctx context.Context, dir string, fn func(name string) error) error {
	entries, err := os.ReadDir(filepath.Join(c.st.Dir(), dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		fi, infoErr := e.Info()
		if errors.Is(infoErr, fs.ErrNotExist) {
			continue // another process was faster
		}
		if infoErr != nil {
			return infoErr
		}
		if time.Since(fi.ModTime()) < young {
			continue
		}
		if err := fn(e.Name()); err != nil {
			return err
		}
	}
	return err
}

// Hold keeps GC from a root while a session stands on it.
func Hold(root *Root) (release func(), err error) {
	return holdFolder(filepath.Dir(root.Path), "the root of "+root.Release.String())
}

func holdFolder(dir, what string) (release func(), err error) {
	d, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(d.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err != nil {
			d.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("holding %s: %w", what, err)
	}
	return func() { d.Close() }, nil
}

// unused takes an item for itself unless a session holds it.
func unused(dir string) (free bool, release func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, nil, err
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil, nil
		}
		return false, nil, err
	}
	return true, func() { d.Close() }, nil
}
