package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// IndexOptions say how to make the index of a release that was taken before there were
// any.
type IndexOptions struct {
	// Folder opens a folder of this machine for reading.
	Folder  func(dir string) (snapshot.Host, error)
	Readers []snapshot.Reader
}

// NoIndexError says that nothing is known of what starts on a release.
type NoIndexError struct {
	Release Release
	Take    string // as its lock has it
}

func (e *NoIndexError) Error() string {
	return fmt.Sprintf("%s has no index: it was taken by a stead that made none, or of a bundle without contents", e.Release)
}

// Hint says how to go on.
func (e *NoIndexError) Hint() string {
	if e.Take == lock.TakeIndex {
		return fmt.Sprintf("stead snapshot HOST %s makes a release with one", e.Release.Target)
	}
	return fmt.Sprintf("stead pull %s, and one is made of its env", e.Release)
}

// OpenIndex opens the index of a release: that of its lock, out of the store or the
// fleet. Where the lock has none, or nobody has it, one is made of the release's env if
// that is in the store.
func OpenIndex(ctx context.Context, cfg Config, rel Release, opts IndexOptions) (*system.Index, lock.Header, error) {
	text, err := rel.Text()
	if err != nil {
		return nil, lock.Header{}, err
	}
	header, err := lock.ReadHeader(text)
	if err != nil {
		return nil, header, fmt.Errorf("%s: %w", rel.Path, err)
	}
	id := lock.Identity(text)
	pinned, made := header.Index, rememberedIndex(cfg.Store, id)
	failed := error(&NoIndexError{Release: rel, Take: header.Take})
	for _, a := range []*lock.Attachment{pinned, made} {
		if a == nil {
			continue
		}
		index, err := readIndex(cfg, a, header.Host.CPU)
		if err == nil {
			return index, header, nil
		}
		if a == pinned {
			failed = fmt.Errorf("opening the index of %s: %w", rel, err)
		}
	}
	root, ok := findRoot(cfg, id)
	if !ok || opts.Folder == nil {
		return nil, header, failed
	}
	if made, err = indexRoot(ctx, cfg, rel.Target, root, opts); err == nil {
		err = cfg.Store.Remember(indexKey(id), made.SHA256)
	}
	if err != nil {
		return nil, header, fmt.Errorf("making the index of %s: %w", rel, err)
	}
	index, err := readIndex(cfg, made, header.Host.CPU)
	return index, header, err
}

func findRoot(cfg Config, identity digest.Digest) (store.Item, bool) {
	if cfg.Store == nil {
		return store.Item{}, false
	}
	return cfg.Store.Find(store.Roots, RootName(identity))
}

// readIndex opens an index, and makes sure that its chunks are to be had.
func readIndex(cfg Config, a *lock.Attachment, cpu string) (*system.Index, error) {
	text, err := cfg.readBlob(a.Digest(), "the index", maxIndex)
	if err != nil {
		return nil, err
	}
	index, err := system.Open(text, cpu, func(sum string) ([]byte, error) {
		return cfg.readBlob(digest.NewDigestFromEncoded(digest.SHA256, sum), "a part of the index", maxChunk)
	})
	if err != nil {
		return nil, fmt.Errorf("the index (%s): %w", a.Digest(), err)
	}
	chunks, err := system.Chunks(text)
	for _, sum := range chunks {
		if d := digest.NewDigestFromEncoded(digest.SHA256, sum); err == nil && !cfg.hasBlob(d) {
			err = &MissingBlobError{What: "a part of the index", Digest: d, Remote: cfg.Fleet.Blobs()}
		}
	}
	if err != nil {
		return nil, err
	}
	return index, nil
}

// indexKey is where a store remembers the index that it made of a root.
func indexKey(identity digest.Digest) string { return "index1-" + RootName(identity) }

// rememberedIndex is the index that the store made of a root; nil where there is none.
func rememberedIndex(st *store.Store, identity digest.Digest) *lock.Attachment {
	if st == nil {
		return nil
	}
	sum, err := st.Recall(indexKey(identity))
	a := &lock.Attachment{SHA256: sum}
	if err != nil || a.Digest().Validate() != nil {
		return nil
	}
	return a
}

// indexRoot makes the index of a root of the store.
func indexRoot(ctx context.Context, cfg Config, target string, root store.Item, opts IndexOptions) (*lock.Attachment, error) {
	manifest, err := root.Manifest()
	if err != nil {
		return nil, err
	}
	host, err := opts.Folder(root.Root())
	if err != nil {
		return nil, err
	}
	if c, ok := host.(io.Closer); ok {
		defer c.Close()
	}
	db, err := snapshot.ReadDatabase(ctx, host, opts.Readers)
	if errors.As(err, new(*snapshot.NoDatabaseError)) {
		db, err = &snapshot.Database{}, nil
	}
	if err != nil {
		return nil, err
	}
	links := map[string]string{}
	var files store.Manifest
	for _, f := range manifest {
		if f.Type == snapshot.Symlink {
			links[f.Path] = f.Target
		}
		if system.Wants(f) {
			files = append(files, f)
		}
	}
	known, err := knownObjects(cfg, target)
	if err != nil {
		return nil, err
	}
	packages, owner := installed(db, links, files)
	index, _, err := makeIndex(ctx, cfg, system.Source{Files: files, Packages: packages, Owner: owner,
		Open: func(_ context.Context, f snapshot.File) (system.Content, error) {
			return os.OpenInRoot(root.Root(), f.Path)
		}}, known)
	return index, err
}
