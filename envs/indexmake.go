package envs

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// makeIndex makes the index of what a source has, and stores it. Objects that are known
// aren't read. blobs are the index and its chunks.
func makeIndex(ctx context.Context, cfg Config, src system.Source, known *knownRecords) (index *lock.Attachment, blobs []digest.Digest, err error) {
	g, gctx := errgroup.WithContext(ctx) // beside the reading: each blob is synced
	g.SetLimit(cfg.jobs())
	text, err := buildIndex(gctx, cfg, src, known, func(sum string, chunk []byte) error {
		d := digest.NewDigestFromEncoded(digest.SHA256, sum)
		blobs = append(blobs, d)
		g.Go(func() error { return putCompressed(gctx, cfg.Store, d, chunk) })
		return gctx.Err()
	})
	if stored := g.Wait(); stored != nil {
		err = fmt.Errorf("storing an index: %w", stored)
	}
	if err != nil {
		return nil, nil, err
	}
	d := digest.FromBytes(text)
	if err := putCompressed(ctx, cfg.Store, d, text); err != nil {
		return nil, nil, fmt.Errorf("storing an index: %w", err)
	}
	return &lock.Attachment{SHA256: d.Encoded()}, append(blobs, d), nil
}

func buildIndex(ctx context.Context, cfg Config, src system.Source, known *knownRecords, emit func(sum string, chunk []byte) error) ([]byte, error) {
	cfg.Progress.Report(snapshot.Event{Stage: "indexing", Total: int64(len(src.Files)), Unit: "files"})
	text, err := system.Build(ctx, src, known.record, emit)
	if err != nil {
		return nil, fmt.Errorf("making an index: %w", err)
	}
	return text, nil
}

// putCompressed stores the bytes of a blob, compressed, unless the store has them.
func putCompressed(ctx context.Context, st *store.Store, d digest.Digest, content []byte) error {
	if st.HasBlob(d) {
		return nil
	}
	w, err := st.NewCompressedBlob()
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	if _, err := w.Write(content); err != nil {
		return err
	}
	_, err = w.Commit(ctx, d)
	return err
}

// index makes the index of a release out of the trees of its packages and the contents
// of its delta, but for one that was made of the host itself.
func (s *snapshotter) index(ctx context.Context, l *lock.Lock) error {
	x := s.files
	if x == nil {
		return nil
	}
	known, err := knownObjects(s.cfg, s.opts.Target)
	if err != nil {
		return err
	}
	if err := x.extract(ctx, s.cfg.Store, l.Delta, known); err != nil {
		return err
	}
	packages, owner := installed(s.inv.Database, s.inv.Links, x.files)
	index, blobs, err := makeIndex(ctx, s.cfg, system.Source{Files: x.files, Packages: packages, Owner: owner, Open: x.open}, known)
	l.Index, s.keep = index, append(s.keep, blobs...)
	return err
}

// same reports whether a lock is as the newest release: it makes none, and its index
// isn't looked for.
func (s *snapshotter) same(l *lock.Lock) (bool, error) {
	releases, err := s.cfg.Fleet.Releases(s.opts.Target)
	if err != nil || len(releases) == 0 {
		return false, err
	}
	id, err := releases[len(releases)-1].Identity()
	return err == nil && id == lock.Identity(l.Write()), err
}
