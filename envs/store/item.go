package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The kinds of items that are folders.
const (
	Trees  = "trees"
	Roots  = "roots"
	Layers = "layers"
)

// Item is a finished folder of the store: an unpacked package, a root filesystem or a
// layer of tools above one. It is never changed.
type Item struct{ Dir string }

// ManifestPath is where the item's manifest lies.
func (it Item) ManifestPath() string { return filepath.Join(it.Dir, "manifest") }

// Root is the folder that holds the entries of the manifest.
func (it Item) Root() string { return filepath.Join(it.Dir, "root") }

// Manifest reads the item's manifest.
func (it Item) Manifest() (Manifest, error) {
	data, err := os.ReadFile(it.ManifestPath())
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.ManifestPath(), err)
	}
	return m, nil
}

// item is the path of an item, which is named by the id mapping too: one that holds
// other owners is another.
func (s *Store) item(kind, name string) string {
	if s.owners.name != "" {
		name += "." + s.owners.name
	}
	return s.path(kind, name)
}

// Find returns the item of that kind and name if the store has it, with the owners
// that this process would give it.
func (s *Store) Find(kind, name string) (Item, bool) {
	it := Item{Dir: s.item(kind, name)}
	_, err := os.Lstat(it.ManifestPath())
	return it, err == nil
}

// Pending is an item that is being made.
type Pending struct {
	Item
	s          *Store
	kind, name string
	done       bool // published or discarded: the folder isn't ours any more
}

// Begin starts to make an item in a folder of its own.
func (s *Store) Begin(kind, name string) (*Pending, error) {
	dir, err := s.WorkDir(kind)
	if err != nil {
		return nil, err
	}
	p := &Pending{Item: Item{Dir: dir}, s: s, kind: kind, name: name}
	if err := os.Mkdir(p.Root(), 0o755); err != nil {
		return nil, err
	}
	return p, nil
}

// Discard drops what was made so far. It may be called after Publish.
func (p *Pending) Discard() error {
	if p.done {
		return nil
	}
	p.done = true
	return removeAll(p.Dir)
}

// WriteManifest writes the item's manifest, the last step before Publish.
func (p *Pending) WriteManifest(m Manifest) error {
	f, err := os.OpenFile(p.ManifestPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = m.WriteTo(f)
	return errors.Join(err, f.Close())
}

// Publish syncs the file system once and renames the items to their names. Where
// another process was faster its item stays: the content is the same.
func (s *Store) Publish(ctx context.Context, items ...*Pending) error {
	if len(items) == 0 {
		return nil
	}
	if err := s.syncfs(); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, p := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		dst := s.item(p.kind, p.name)
		err := os.Rename(p.Dir, dst)
		switch {
		case errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY):
			if err := p.Discard(); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("publishing %s %s: %w", p.kind, p.name, err)
		}
		p.Dir, p.done = dst, true
		dirs[filepath.Dir(dst)] = true
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) syncfs() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing store %s: %w", s.dir, err)
	}
	return nil
}

// Parse takes an entry of the folder of a kind apart: the item's name, and that of
// the id mapping under which it was made.
func Parse(entry string) (name, mapping string) {
	name, mapping, _ = strings.Cut(entry, ".")
	return name, mapping
}

// Drop removes a finished item by its entry in the folder of its kind. It is renamed
// away first, so that nobody meets half of it.
func (s *Store) Drop(kind, entry string) error {
	dir, err := s.WorkDir("gone")
	if err != nil {
		return err
	}
	if err := os.Rename(s.path(kind, entry), filepath.Join(dir, "item")); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	return removeAll(dir)
}
