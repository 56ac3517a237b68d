package envs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// ClaimError says that stead.lock tells of tools what isn't so. Digests hold what is in
// an env; this is about the rest, which people read.
type ClaimError struct {
	Release Release
	Field   string
	Claim   string // what stead.lock has
	Is      string
}

func (e *ClaimError) Error() string {
	return fmt.Sprintf("%s doesn't match for the tools of %s: %s is %s there, and in truth %s", ProjectLockFile, e.Release, e.Field, e.Claim, e.Is)
}

// Hint says how to go on.
func (e *ClaimError) Hint() string {
	return "it was edited: git checkout " + ProjectLockFile + ", or remove it: stead update writes it anew"
}

// checkShadows holds what tools are said to shadow to what a layer's manifest does.
func (t *Tools) checkShadows(rel Release, below image.Below, m store.Manifest) error {
	var is []string
	for _, f := range m {
		if !mayShadow(f.Path) || isLitter(f.Path) {
			continue
		}
		if old, there := below.Manifest.Lookup(f.Path); there && old.Type == f.Type && f.Type != snapshot.Dir && !old.Same(f) {
			is = append(is, f.Path)
		}
	}
	return t.sameShadows(rel, is)
}

func (t *Tools) sameShadows(rel Release, is []string) error {
	sorted := func(l []string) []string { return slices.Compact(slices.Sorted(slices.Values(l))) }
	claim, is := sorted(t.Shadows), sorted(is)
	for _, p := range claim {
		if !slices.Contains(is, p) {
			return &ClaimError{rel, "shadows", "with /" + p, "without"}
		}
	}
	for _, p := range is {
		if !slices.Contains(claim, p) {
			return &ClaimError{rel, "shadows", "without /" + p, "with"}
		}
	}
	return nil
}

// checkClaims holds what stead.lock says of a layer that is there to the store's own
// record of it, and to package files.
func (t *Tools) checkClaims(cfg Config, rel Release, layer *ToolsLayer) error {
	for _, k := range t.Packages {
		path, compressed, found := cfg.Store.BlobPath(k.Digest())
		if !found || compressed {
			continue
		}
		if fi, err := os.Stat(path); err == nil && fi.Size() != k.Size {
			return &ClaimError{rel, "size of " + k.Name, fmt.Sprint(k.Size), fmt.Sprint(fi.Size())}
		}
	}
	var made madeLayer
	err := readMade(store.Item{Dir: filepath.Dir(layer.Path)}, &made)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.sameShadows(rel, made.Tools.Shadows); err != nil {
		return err
	}
	if t.Delta != made.Tools.Delta {
		return &ClaimError{rel, "delta", fmt.Sprint(t.Delta.Size, " bytes of ", t.Delta.Files, " files"),
			fmt.Sprint(made.Tools.Delta.Size, " bytes of ", made.Tools.Delta.Files, " files")}
	}
	return t.checkRecorded(rel, made.Tools)
}

// checkRecorded holds packages and archives to those that a layer was made of. The same
// package may have come from another archive since, but nobody's server is a folder.
func (t *Tools) checkRecorded(rel Release, made Tools) error {
	bySum := map[string]lock.Package{}
	for _, k := range made.Packages {
		bySum[k.SHA256] = k
	}
	for _, k := range t.Packages {
		m, ok := bySum[k.SHA256]
		claim, is := fmt.Sprint(k.Name, " ", k.Version, " ", k.Architecture), fmt.Sprint(m.Name, " ", m.Version, " ", m.Architecture)
		switch {
		case !ok:
		case claim != is:
			return &ClaimError{rel, "package " + k.SHA256[:12], claim, is}
		case k.Size != m.Size:
			return &ClaimError{rel, "size of " + k.Name, fmt.Sprint(k.Size), fmt.Sprint(m.Size)}
		}
	}
	local := func(a lock.Archive) bool { return strings.HasPrefix(a.URI, "file:") }
	for _, a := range t.Archives {
		for _, m := range made.Archives {
			if a.InRelease == "" || a.InRelease != m.InRelease {
				continue
			}
			switch {
			case local(a) != local(m):
				return &ClaimError{rel, "uri of archive " + a.Name, a.URI, m.URI}
			case !a.Dated.Equal(m.Dated):
				return &ClaimError{rel, "date of archive " + a.Name, a.Dated.String(), m.Dated.String()}
			}
		}
	}
	return nil
}
