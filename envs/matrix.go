package envs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

// MatrixEntry is what a CI job needs to know of one target.
type MatrixEntry struct {
	Target       string        `json:"target"`
	Ref          string        `json:"ref"` // what to build, as stead.toml names it: globex:next
	Release      int           `json:"release"`
	Lock         digest.Digest `json:"lock"`            // identity
	Tools        string        `json:"tools,omitempty"` // digest of their layer, where packages were chosen
	Architecture string        `json:"architecture,omitempty"`
	Key          string        `json:"key"`   // of a cache: another one where anything in it would differ
	Paths        []string      `json:"paths"` // to keep in that cache
	// Serves are the targets that this build is for, where those are grouped.
	Serves []string `json:"serves,omitempty"`
}

// Matrix tells of the targets that refs name, from stead.lock. Of what isn't in there
// it tells what the fleet has, unless locked, and writes nothing.
func (p *Project) Matrix(f *Fleet, refs []Ref, locked bool) ([]MatrixEntry, error) {
	dir, err := StoreDir()
	if err != nil {
		return nil, err
	}
	l, err := p.readLock()
	if err != nil {
		return nil, err
	}
	entries := []MatrixEntry{}
	for _, ref := range refs {
		rel, err := p.chosen(f, ref, locked)
		if err != nil {
			return nil, err
		}
		text, err := rel.Text()
		if err != nil {
			return nil, err
		}
		h, err := lock.ReadHeader(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rel.Path, err)
		}
		e := MatrixEntry{Target: rel.Target, Ref: ref.String(), Release: rel.Number, Lock: lock.Identity(text), Architecture: h.Host.Architecture,
			Paths: []string{filepath.Join(dir, store.BlobsDir)}}
		c, ok := l.find(rel.Target)
		if _, wishes, _ := p.Config.For(rel.Target); ok && c.Lock == e.Lock && c.Tools != nil && sameWishes(c.Tools.texts(), wishes) {
			e.Tools = c.Tools.Digest
		}
		e.Key = cacheKey(e.Lock, e.Tools)
		entries = append(entries, e)
	}
	return entries, nil
}

// chosen is Choose for one ref, and writes nothing.
func (p *Project) chosen(f *Fleet, ref Ref, locked bool) (Release, error) {
	releases, err := p.Choose(f, []Ref{ref}, true)
	var stale *LockedError
	if !locked && errors.As(err, &stale) {
		return f.Resolve(ref)
	}
	if err != nil {
		return Release{}, err
	}
	return releases[0], nil
}

// cacheKey names what the blobs of an env and its tools are, in the store's format. The
// same env has the same key for each target and each project.
func cacheKey(identity digest.Digest, tools string) string {
	sum := sha256.Sum256([]byte(identity.String() + "\n" + tools))
	return fmt.Sprintf("stead-%d-%s", store.Format, hex.EncodeToString(sum[:16]))
}
