package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Difference is a path that isn't as the lock says.
type Difference struct {
	Where string `json:"where"` // "env", "tree of bash", "blob of bash"
	Path  string `json:"path,omitempty"`
	What  string `json:"what"`
}

func (d Difference) String() string {
	if d.Path == "" {
		return d.Where + ": " + d.What
	}
	return fmt.Sprintf("%s: %q: %s", d.Where, "/"+d.Path, d.What)
}

// FsckResult sums up a check.
type FsckResult struct {
	Release     string `json:"release"`
	Paths       int64  `json:"paths"` // compared with a manifest
	Bytes       int64  `json:"bytes"` // read
	Blobs       int    `json:"blobs"` // hashed
	Differences int    `json:"differences"`
	Dropped     int    `json:"dropped"` // envs, trees and blobs that the next pull makes anew
	// OwnersHeld is false in a store that can't hold owners: only the manifest does.
	// Unheld are the paths, in one that can, whose owners or attributes lie outside of
	// the ids that this user has.
	OwnersHeld bool `json:"ownersHeld"`
	Unheld     int  `json:"unheld"`
	// Shut are files whose mode keeps even their owner, an ordinary user, from reading
	// them: all but their content was compared.
	Shut int `json:"shut"`
}

// FsckOptions say how to look at a disk.
type FsckOptions struct {
	// Folder opens a folder of this machine for reading.
	Folder func(dir string) (snapshot.Host, error)
	Report func(Difference)
	// Drop removes each env, tree and blob that differs, so that the next pull makes it
	// anew. The only copy of a blob stays.
	Drop bool
}

// Fsck compares what this machine has of a release with its lock, path by path and
// byte by byte: the env, the layers of tools above it, the trees that they are linked
// from, the blobs these came from.
func Fsck(ctx context.Context, cfg Config, rel Release, opts FsckOptions) (*FsckResult, error) {
	text, err := rel.Text()
	if err != nil {
		return nil, err
	}
	l, err := lock.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rel.Path, err)
	}
	c := &checker{cfg: cfg, opts: opts, own: cfg.Store.Owners(), sums: map[snapshot.Stamp]string{}, seen: map[digest.Digest]bool{}}
	c.res = FsckResult{Release: rel.String(), OwnersHeld: c.own.Any()}
	if err := c.index(l.Index); err != nil || l.Take == lock.TakeIndex {
		return &c.res, err
	}
	root, ok := cfg.Store.Find(store.Roots, RootName(lock.Identity(text)))
	if !ok {
		return nil, &NotPulledError{Release: rel}
	}
	err = c.mending(store.Roots, root, func() error { return c.root(ctx, root, l.Rootfs.Digest) })
	if err != nil {
		return nil, err
	}
	for _, t := range append(packageTrees(l.Packages), deltaTree(l.Delta)) {
		if err := c.tree(ctx, t); err != nil {
			return nil, err
		}
	}
	if err := c.layers(ctx, lock.Identity(text)); err != nil {
		return nil, err
	}
	return &c.res, c.sessions()
}

// sessions reports the named sessions that can't be entered. They are no copies of
// anything: none is dropped.
func (c *checker) sessions() error {
	list, err := ListKept(c.cfg.Store)
	for _, k := range list {
		if k.Problem != "" {
			c.report(Difference{Where: "session " + k.Name, What: k.Problem})
		}
	}
	return err
}

// NotPulledError says that a release isn't on this machine.
type NotPulledError struct{ Release Release }

func (e *NotPulledError) Error() string { return fmt.Sprintf("%s is not in the store", e.Release) }

// Hint says how to go on.
func (e *NotPulledError) Hint() string { return "stead pull " + e.Release.String() }

type checker struct {
	cfg  Config
	opts FsckOptions
	res  FsckResult
	own  store.Owners              // that the store holds
	sums map[snapshot.Stamp]string // by a file's change stamp: trees and envs share files
	seen map[digest.Digest]bool    // trees of tools, which layers share
}

func (c *checker) report(d Difference) {
	c.res.Differences++
	if c.opts.Report != nil {
		c.opts.Report(d)
	}
}

func (c *checker) root(ctx context.Context, it store.Item, want string) error {
	m, err := it.Manifest()
	if err == nil && m.Digest() != want {
		err = &image.RootfsError{Want: want, Got: m.Digest()}
	}
	if err != nil {
		c.report(Difference{Where: "env", What: "its manifest isn't the lock's: " + err.Error()})
		if m, err = image.LoadManifest(c.cfg.Store, want); err != nil {
			return nil //nolint:nilerr // reported; there is nothing left to compare with
		}
	}
	return c.item(ctx, "env", it, m)
}

// tree checks a tree and the blob that it came from, where the store has them.
func (c *checker) tree(ctx context.Context, t unpacking) error {
	where := "tree of " + t.name
	it, ok := c.cfg.Store.Find(store.Trees, t.digest.Encoded())
	if !ok {
		return c.blob(t.name, t.digest)
	}
	err := c.mending(store.Trees, it, func() error {
		m, err := it.Manifest()
		if err != nil {
			c.report(Difference{Where: where, What: err.Error()})
			return nil
		}
		return c.item(ctx, where, it, m)
	})
	return errors.Join(err, c.blob(t.name, t.digest))
}

// mending runs a check of an item, and drops the item where the check found a
// difference and that is asked for.
func (c *checker) mending(kind string, it store.Item, check func() error) error {
	before := c.res.Differences
	if err := check(); err != nil || !c.opts.Drop || c.res.Differences == before {
		return err
	}
	free, release, err := unused(it.Dir)
	if err != nil {
		return err
	}
	if !free {
		return fmt.Errorf("dropping %s: a session stands on it", it.Dir)
	}
	defer release()
	c.res.Dropped++
	return c.cfg.Store.Drop(kind, filepath.Base(it.Dir))
}

// item compares a folder of the store with its manifest.
func (c *checker) item(ctx context.Context, where string, it store.Item, m store.Manifest) error {
	host, err := c.opts.Folder(it.Root())
	if err != nil {
		return err
	}
	if closer, ok := host.(io.Closer); ok {
		defer closer.Close()
	}
	disk := store.Manifest{}
	err = host.Files(ctx, ".", func(f snapshot.File, err error) error {
		if err != nil {
			c.report(Difference{Where: where, Path: f.Path, What: err.Error()})
			return nil
		}
		disk = append(disk, f)
		return nil
	})
	if err != nil {
		return err
	}
	disk.Normalize()
	if err := c.hash(ctx, where, host, disk); err != nil {
		return err
	}
	for i, j := 0, 0; i < len(m) || j < len(disk); {
		c.res.Paths++
		switch {
		case j >= len(disk) || i < len(m) && m[i].Path < disk[j].Path:
			c.report(Difference{Where: where, Path: m[i].Path, What: "it is missing"})
			i++
		case i >= len(m) || disk[j].Path < m[i].Path:
			c.report(Difference{Where: where, Path: disk[j].Path, What: "nothing brings it"})
			j++
		default:
			if what := c.compare(m[i], disk[j]); what != "" {
				c.report(Difference{Where: where, Path: m[i].Path, What: what})
			}
			i, j = i+1, j+1
		}
	}
	return nil
}

// shut stands for the digest of a file that can't be read.
const shut = "shut"

// hash fills in the digests of the files on disk.
func (c *checker) hash(ctx context.Context, where string, host snapshot.Host, disk store.Manifest) error {
	at := map[string]int{}
	var paths []string
	for i, f := range disk {
		if f.Type != snapshot.Regular {
			continue
		}
		if sum, ok := c.sums[f.Change]; ok && f.Change != (snapshot.Stamp{}) {
			disk[i].Digest = sum
			continue
		}
		at[f.Path] = i
		paths = append(paths, f.Path)
	}
	return host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		f := &disk[at[p]]
		h := sha256.New()
		if err == nil {
			var n int64
			n, err = io.Copy(h, r)
			c.res.Bytes += n
		}
		if errors.Is(err, fs.ErrPermission) && !c.res.OwnersHeld && f.Mode&0o400 == 0 {
			c.res.Shut++
			f.Digest = shut
			return nil
		}
		if err != nil {
			c.report(Difference{Where: where, Path: p, What: err.Error()})
			return nil
		}
		f.Digest = hex.EncodeToString(h.Sum(nil))
		c.sums[f.Change] = f.Digest
		c.cfg.Progress.Report(snapshot.Event{Stage: "checking", Item: where, Done: c.res.Bytes, Unit: "bytes"})
		return nil
	})
}

// compare says in what a path on disk isn't as its manifest has it.
func (c *checker) compare(want, got snapshot.File) string {
	if !c.res.OwnersHeld && want.Type == snapshot.Dir {
		want.Mode |= 0o700
	}
	got = c.unheld(want, got)
	if got.Digest == shut {
		got.Digest = want.Digest
	}
	if got.Type == snapshot.Symlink {
		got.Mode = want.Mode
	}
	if got.Type != snapshot.Regular {
		got.Link = want.Link
	}
	switch {
	case want.Type != got.Type:
		return fmt.Sprintf("its type is %c instead of %c", got.Type, want.Type)
	case want.Type == snapshot.Regular && (want.Size != got.Size || want.Digest != got.Digest):
		return fmt.Sprintf("its content is another one: %d bytes, %s instead of %d bytes, %s", got.Size, got.Digest, want.Size, want.Digest)
	case want.Target != got.Target:
		return fmt.Sprintf("it leads to %q instead of %q", got.Target, want.Target)
	case want.Mode != got.Mode:
		return fmt.Sprintf("its mode is %04o instead of %04o", got.Mode, want.Mode)
	case want.UID != got.UID || want.GID != got.GID:
		return fmt.Sprintf("its owner is %d:%d instead of %d:%d", got.UID, got.GID, want.UID, want.GID)
	case (want.Type == snapshot.Regular || want.Type == snapshot.Symlink) && want.MTime != got.MTime:
		return fmt.Sprintf("its time is %d instead of %d", got.MTime, want.MTime)
	case want.Link != got.Link:
		return fmt.Sprintf("it is linked to %q instead of %q", got.Link, want.Link)
	case !want.Same(got):
		return "its extended attributes are other ones"
	}
	return ""
}

// unheld takes what a disk can't hold of an entry from its manifest.
func (c *checker) unheld(want, got snapshot.File) snapshot.File {
	lacks := false
	if !c.own.Holds(want.UID, want.GID) {
		got.UID, got.GID = want.UID, want.GID
		lacks = true
	}
	for name, value := range want.Xattrs {
		if c.own.HoldsAttribute(name, value) {
			continue
		}
		if got.Xattrs = maps.Clone(got.Xattrs); got.Xattrs == nil {
			got.Xattrs = map[string]string{}
		}
		got.Xattrs[name] = value
		lacks = true
	}
	if lacks && c.res.OwnersHeld {
		c.res.Unheld++
	}
	return got
}

// index checks what verdicts on a release rest on.
func (c *checker) index(a *lock.Attachment) error {
	if a == nil {
		return nil
	}
	chunks, err := indexChunks(c.cfg, a)
	if err != nil && !errors.As(err, new(*MissingBlobError)) { // what was never fetched can't be damaged
		c.report(Difference{Where: "index", What: err.Error()})
	}
	for _, d := range append(chunks, a.Digest()) {
		if err := c.blob("the index", d); err != nil {
			return err
		}
	}
	return nil
}

// blob hashes a blob, if the store has it: what was unpacked needs it no more.
func (c *checker) blob(name string, d digest.Digest) error {
	r, err := c.cfg.Store.OpenBlob(d)
	var missing *store.MissingError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
		c.res.Blobs++
	}
	if err == nil {
		return nil
	}
	c.report(Difference{Where: "blob of " + name, What: err.Error()})
	if c.opts.Drop && !c.cfg.Store.IsSole(d) {
		c.res.Dropped++
		return c.cfg.Store.DropBlob(d)
	}
	return nil
}
