package envs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Pushed is what Push did for one release.
type Pushed struct {
	Release string `json:"release"`
	Blobs   int    `json:"blobs"`           // brought to the remote
	Present int    `json:"present"`         // that were there already
	Tools   bool   `json:"tools,omitempty"` // it is of a project's tools for that release
}

// Push brings what no archive has of a release from the store to the fleet's
// blobs/. A blob that neither has is a *store.MissingError.
func Push(ctx context.Context, cfg Config, rel Release) (Pushed, error) {
	l, err := rel.Lock()
	if err != nil {
		return Pushed{Release: rel.String()}, err
	}
	chunks, err := indexChunks(cfg, l.Index)
	if err != nil {
		return Pushed{Release: rel.String()}, fmt.Errorf("pushing %s: %w", rel, err)
	}
	return push(ctx, cfg, rel, append(ownBlobs(l), chunks...))
}

func push(ctx context.Context, cfg Config, rel Release, blobs []digest.Digest) (Pushed, error) {
	done := Pushed{Release: rel.String()}
	if r := cfg.Fleet.Remote(); r != "" {
		return done, fmt.Errorf("pushing %s: the remote %s can't be written to yet", rel, r)
	}
	remote := store.Folder{Dir: cfg.Fleet.Blobs()}
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

// ownBlobs are what a lock names that no archive has. Its index leads to further ones.
func ownBlobs(l *lock.Lock) []digest.Digest {
	var blobs []digest.Digest
	if l.Take != lock.TakeIndex {
		blobs = append(blobs, l.Delta.Digest(), image.ManifestDigest(l.Rootfs.Digest))
	}
	for _, a := range []*lock.Attachment{l.Review, l.Index} {
		if a != nil {
			blobs = append(blobs, a.Digest())
		}
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

// PushTools brings what no archive has of the project's tools, for some targets or for
// all, from the store to the fleet's blobs/.
func (p *Project) PushTools(ctx context.Context, cfg Config, targets []string) ([]Pushed, error) {
	l, err := p.readLock()
	if err != nil {
		return nil, err
	}
	var all []Pushed
	for _, c := range l.Targets {
		ref, err := ParseRef(c.Want)
		if err != nil || c.Tools == nil || len(c.Tools.Packages) == 0 || len(targets) > 0 && !slices.Contains(targets, ref.Target) {
			continue
		}
		done, err := PushTools(ctx, cfg, Release{Target: ref.Target, Number: c.Release}, c.Tools.Tools())
		var missing *store.MissingError
		if errors.As(err, &missing) {
			cfg.Progress.Note("pushing", fmt.Sprintf("the tools for %s aren't all here: whoever made them has %s", c.Want, missing.Digest))
			continue
		}
		if err != nil {
			return all, err
		}
		done.Tools = true
		all = append(all, done)
	}
	return all, nil
}

// PushTools brings what no archive has of tools from the store to the fleet's blobs/.
func PushTools(ctx context.Context, cfg Config, of Release, t *Tools) (Pushed, error) {
	return push(ctx, cfg, of, ownToolBlobs(t))
}

// ownToolBlobs are what tools need that no archive has.
func ownToolBlobs(t *Tools) []digest.Digest {
	if len(t.Packages) == 0 {
		return nil
	}
	return ownBlobs(&lock.Lock{Archives: t.Archives, Packages: t.Packages, Delta: t.Delta, Rootfs: lock.Rootfs{Digest: t.Digest}})
}
