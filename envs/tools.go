package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Tools are packages that a project adds to a release, as stead.lock pins them: with the
// delta that their scripts made, once, and the digest of what must come out.
type Tools struct {
	Wishes   []string       `toml:"wishes,omitempty" json:"wishes,omitempty"`
	Archives []lock.Archive `toml:"archive" json:"archives"`
	Packages []lock.Package `toml:"package" json:"packages"` // none where the release grants all wishes
	Delta    lock.Delta     `toml:"delta" json:"delta"`
	// Digest is that of the layer's manifest: "tree1:sha256:…".
	Digest string `toml:"digest" json:"digest"`
	// Shadows are the release's own paths that the layer has in another form, sorted:
	// records of the package manager, alternatives and ld.so.cache.
	Shadows []string `toml:"shadows,omitempty" json:"shadows,omitempty"`
}

// ToolsLayer are tools on this machine, ready to be laid over a root: see
// runtime.Spec.Lower.
type ToolsLayer struct {
	Name string // in the store
	Path string // of the layer's content; it must never be written
	Made bool   // it wasn't there before
}

// LayerName is the name in the store of a layer for the release with that identity.
func LayerName(release digest.Digest, t *Tools) string {
	h := sha256.New()
	// With the digest in it, no layer that is there stands for another that stead.lock claims.
	fmt.Fprintf(h, "layer2\n%s\n%s\n%s\n", release, t.Delta.SHA256, t.Digest)
	var packages []string
	for _, p := range t.Packages {
		packages = append(packages, p.SHA256)
	}
	slices.Sort(packages)
	for _, p := range packages {
		fmt.Fprintln(h, p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// lock is what a puller has to know.
func (t *Tools) lock() *lock.Lock {
	l := &lock.Lock{Archives: t.Archives, Packages: slices.Clone(t.Packages), Delta: t.Delta, Rootfs: lock.Rootfs{Digest: t.Digest}}
	for i, p := range l.Packages {
		if isOutside(p.Name) {
			l.Packages[i].Rootfs = "out"
		}
	}
	return l
}

// madeLayer is a file beside a layer that tells what it is.
type madeLayer struct {
	Release digest.Digest `toml:"release"` // identity
	Tools   Tools         `toml:"tools"`
}

const madeFile = "tools.toml"

// PullTools makes tools ready on this machine: what it lacks is fetched, unpacked and
// linked into a layer with the digest that t names. It runs nothing. It returns nil
// where there are no packages.
func PullTools(ctx context.Context, cfg Config, base *Root, t *Tools) (*ToolsLayer, error) {
	if len(t.Packages) == 0 {
		return nil, nil
	}
	layer := &ToolsLayer{Name: LayerName(base.Identity, t)}
	find := func() bool {
		it, ok := cfg.Store.Find(store.Layers, layer.Name)
		layer.Path = it.Root()
		return ok
	}
	if find() {
		return layer, nil
	}
	release, err := cfg.Store.Lock(ctx, store.Layers, layer.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	if find() { // made while this one waited
		return layer, nil
	}
	p := puller{cfg: cfg, who: "whoever ran stead update", lock: t.lock()}
	if err := p.blobs(ctx); err != nil {
		return nil, fmt.Errorf("pulling the tools for %s: %w", base.Release, err)
	}
	if layer.Path, err = p.layer(ctx, base, t); err != nil {
		return nil, fmt.Errorf("pulling the tools for %s: %w", base.Release, err)
	}
	layer.Made = true
	return layer, nil
}

// layer unpacks what isn't unpacked yet and makes the layer.
func (p *puller) layer(ctx context.Context, base *Root, t *Tools) (string, error) {
	trees := append([]unpacking{deltaTree(t.Delta)}, packageTrees(p.packages())...)
	if err := unpackAll(ctx, p.cfg, trees, p.again); err != nil {
		return "", err
	}
	loaded, err := loadTrees(ctx, p.cfg, trees)
	if err != nil {
		return "", err
	}
	below, err := below(base)
	if err != nil {
		return "", err
	}
	p.cfg.Progress.Report(snapshot.Event{Stage: "linking", Item: "tools"})
	pending, err := image.MakeLayer(ctx, p.cfg.Store, below, loaded[1:], loaded[0], t.Digest, LayerName(base.Identity, t), p.cfg.jobs())
	if err != nil {
		return "", err
	}
	m, err := store.Item{Dir: pending.Dir}.Manifest()
	if err == nil {
		err = t.checkShadows(base.Release, below, m)
	}
	if err != nil {
		return "", errors.Join(err, pending.Discard())
	}
	text, err := encode(madeLayer{Release: base.Identity, Tools: *t})
	if err == nil {
		err = os.WriteFile(filepath.Join(pending.Dir, madeFile), text, 0o600)
	}
	if err == nil {
		err = p.cfg.Store.Publish(ctx, pending)
	}
	if err != nil {
		return "", errors.Join(err, pending.Discard())
	}
	return pending.Root(), nil
}

// below is a root as what comes above it has to know it.
func below(base *Root) (image.Below, error) {
	m, err := store.Item{Dir: filepath.Dir(base.Path)}.Manifest()
	if err != nil {
		return image.Below{}, fmt.Errorf("reading the root of %s: %w", base.Release, err)
	}
	view, err := viewRoot(base.Path, "")
	if err != nil {
		return image.Below{}, fmt.Errorf("reading the root of %s: %w", base.Release, err)
	}
	defer view.close()
	return image.Below{Manifest: m, Names: image.ParseNames(view.read("/etc/passwd"), view.read("/etc/group"))}, nil
}

// HoldTools keeps GC from a layer while a session stands on it.
func HoldTools(layer *ToolsLayer) (release func(), err error) {
	if layer == nil {
		return func() {}, nil
	}
	return holdFolder(filepath.Dir(layer.Path), "the tools layer")
}
