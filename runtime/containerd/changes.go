package containerd

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"slices"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stead-env/stead/runtime/session"
)

// changed counts the files that the session made, changed or removed.
func (s *running) changed(ctx context.Context) (int, error) {
	if s.changes != nil {
		return session.Changed(s.changes, s.made)
	}
	n, err := s.compare(ctx)
	if err != nil {
		return 0, s.daemon.fail("counting what the session changed", err, "")
	}
	return n, nil
}

// compare counts by the layer that the daemon makes of the session's snapshot, where
// the snapshotter keeps changes in no folder of their own.
func (s *running) compare(ctx context.Context) (n int, err error) {
	err = s.daemon.leased(ctx, s.ID, s.scratch, func(ctx context.Context) error {
		left, err := s.daemon.snapshots.View(ctx, &snapshotsapi.ViewSnapshotRequest{Snapshotter: s.daemon.Snapshotter,
			Key: s.ID + "-unpack", Parent: s.image.layer.String()})
		if err != nil {
			return err
		}
		resp, err := s.daemon.diff.Diff(ctx, &diffapi.DiffRequest{Left: left.Mounts, Right: s.mounts,
			MediaType: ocispec.MediaTypeImageLayer, Ref: s.ID})
		if err != nil {
			return err
		}
		desc := ocispec.Descriptor{Digest: digest.Digest(resp.Diff.Digest), Size: resp.Diff.Size}
		r, err := s.daemon.content.ReaderAt(ctx, desc)
		if err != nil {
			return err
		}
		defer r.Close()
		n, err = s.count(tar.NewReader(io.NewSectionReader(r, 0, desc.Size)))
		return err
	})
	return n, err
}

// count counts the files of a layer of changes.
func (s *running) count(layer *tar.Reader) (n int, err error) {
	for {
		h, err := layer.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading the snapshot's changes: %w", err)
		}
		if h.Typeflag != tar.TypeDir && !slices.Contains(s.made, h.Name) {
			n++
		}
	}
}
