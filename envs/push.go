package envs

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Pushed is what Push did for one release.
type Pushed struct {
	Release string `json:"release"`
	Blobs   int    `json:"blobs"`   // brought to the remote
	Present int    `json:"present"` // that were there already
}

// Push brings what no archive has of a release from the store to the fleet's
// blobs/. A blob that neither has is a *store.MissingError.
func Push(ctx context.Context, cfg Config, rel Release) (Pushed, error) {
	done := Pushed{Release: rel.String()}
	if r := cfg.Fleet.Remote(); r != "" {
		return done, fmt.Errorf("pushing %s: the remote %s can't be written to yet", rel, r)
	}
	l, err := rel.Lock()
	if err != nil {
		return done, err
	}
	remote := store.Folder{Dir: cfg.Fleet.Blobs()}
	blobs := ownBlobs(l)
	for i, d := range blobs {
		cfg.Progress.Report(snapshot.Event{Stage: "pushing", Item: d.Encoded()[:12], Done: int64(i), Total: int64(len(blobs)), Unit: "blobs"})
		if remote.Has(d) {
			done.Present++
		} else {
			done.Blobs++
		}
		if err := remote.Push(ctx, cfg.Store, d); err != nil {
			return done, fmt.Errorf("pushing %s: %w", rel, err)
		}
	}
	return done, nil
}

// ownBlobs are what a lock needs that no archive has.
func ownBlobs(l *lock.Lock) []digest.Digest {
	var blobs []digest.Digest
	if l.Take != lock.TakeIndex {
		blobs = append(blobs, l.Delta.Digest(), image.ManifestDigest(l.Rootfs.Digest))
	}
	if l.Review != nil {
		blobs = append(blobs, digest.NewDigestFromEncoded(digest.SHA256, l.Review.SHA256))
	}
	for _, a := range l.Archives {
		blobs = append(blobs, a.InRelease)
	}
	for _, p := range l.Packages {
		if p.Archive == "" && p.HasFile() {
			blobs = append(blobs, p.Digest())
		}
	}
	return blobs
}
