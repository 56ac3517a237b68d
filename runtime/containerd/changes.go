package containerd

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stead-env/stead/runtime/session"
)

// changed counts the files that the session made, changed or removed.
func (s *running) changed(ctx context.Context) (int, error) {
	if s.changes != nil {
		return session.Changed(s.changes.FS(), s.made)
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
	_, err = s.daemon.leases.Create(ctx, &leasesapi.CreateRequest{ID: s.ID, Labels: map[string]string{
		gcExpire: time.Now().Add(making).UTC().Format(time.RFC3339)}})
	if err != nil {
		return 0, err
	}
	ctx = leases.WithLease(ctx, s.ID) // the session's end is that of the lease, and of all below
	view := s.ID + "-unpack"
	left, err := s.daemon.snapshots.View(ctx, &snapshotsapi.ViewSnapshotRequest{Snapshotter: s.daemon.Snapshotter,
		Key: view, Parent: s.image.layer.String()})
	if err != nil {
		return 0, err
	}
	resp, err := s.daemon.diff.Diff(ctx, &diffapi.DiffRequest{Left: left.Mounts, Right: s.mounts,
		MediaType: ocispec.MediaTypeImageLayer, Ref: s.ID})
	if err != nil {
		return 0, err
	}
	desc := ocispec.Descriptor{Digest: digest.Digest(resp.Diff.Digest), Size: resp.Diff.Size}
	r, err := s.daemon.content.ReaderAt(ctx, desc)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	layer := tar.NewReader(io.NewSectionReader(r, 0, desc.Size))
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
