package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/snapshot"
)

// UnsentError says that a bundle lacks a file which the snapshot has to store.
type UnsentError struct {
	Path    string
	Package string // that it is of; "" for one of no package
}

func (e *UnsentError) Error() string {
	of := ""
	if e.Package != "" {
		of = " of package " + e.Package
	}
	return fmt.Sprintf("the bundle doesn't hold /%s%s", e.Path, of)
}

// Hint says how the bundle has to be made.
func (e *UnsentError) Hint() string {
	if e.Package == "" {
		return "make the bundle again on the host, with --keep /" + e.Path
	}
	return "make the bundle again on the host, with --with " + e.Package
}

// unsent makes an error for people of one that says that a bundle lacks a content; nil
// for any other.
func (s *snapshotter) unsent(f snapshot.File, err error) error {
	var u *snapshot.UnsentError
	if !errors.As(err, &u) {
		return nil
	}
	links := snapshot.NewLinks(s.inv.Links)
	for i := range s.inv.Database.Packages {
		p := &s.inv.Database.Packages[i]
		for _, own := range p.Files {
			if own == f.Path || links.Locate(own) == f.Path {
				return &UnsentError{f.Path, p.Name}
			}
		}
	}
	return &UnsentError{Path: f.Path}
}

// sent fails where a bundle lacks a file of a package that has to be repacked.
func (s *snapshotter) sent(all []*repacking) error {
	for _, r := range all {
		for _, f := range r.hosts {
			if f.Type != snapshot.Regular {
				continue
			}
			if _, _, err := s.contents.of(f); errors.As(err, new(*snapshot.UnsentError)) {
				return fmt.Errorf("repacking %s: %w", r.pkg.Name, &UnsentError{f.Path, r.pkg.Name})
			}
		}
	}
	return nil
}

// originals gives the contents of files that the host found to be as their package
// brought them: out of the tree of the package, which was proved.
func (s *snapshotter) originals(base *image.Base) func(ctx context.Context, f snapshot.File) (io.ReadCloser, error) {
	stored := sync.OnceValues(func() (func(sum string) (io.ReadCloser, error), error) {
		c, err := s.cfg.Store.Contents(context.Background())
		if err != nil {
			return nil, err
		}
		return c.Open, nil
	})
	return func(_ context.Context, f snapshot.File) (io.ReadCloser, error) {
		e, ok := base.Manifest.Lookup(f.Path)
		if !ok || e.Type != snapshot.Regular || e.Size != f.Size {
			return nil, fs.ErrNotExist
		}
		open, err := stored()
		if err != nil {
			return nil, err
		}
		return open(e.Digest)
	}
}

// elsewhere settles a file that the host itself didn't give: one that it held back, and
// one that is its package's.
func (c *contents) elsewhere(ctx context.Context, f snapshot.File, failed error) (r io.ReadCloser, reason string, err error) {
	var held *snapshot.WithheldError
	if errors.As(failed, &held) {
		return nil, held.Reason, nil
	}
	var u *snapshot.UnsentError
	if c.original != nil && errors.As(failed, &u) && u.Original {
		if r, err := c.original(ctx, f); err == nil {
			return r, "", nil
		}
	}
	return nil, "", failed
}
