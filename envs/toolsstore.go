package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/store"
)

// layers checks the layers that lie above a release's root, and what they are made of.
func (c *checker) layers(ctx context.Context, release digest.Digest) error {
	dir := filepath.Join(c.cfg.Store.Dir(), store.Layers)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		name, mapping := store.Parse(e.Name())
		if mapping != c.own.Name() {
			continue
		}
		it, _ := c.cfg.Store.Find(store.Layers, name)
		var made madeLayer
		err := readMade(it, &made)
		if err == nil && made.Release != release {
			continue
		}
		if err == nil && LayerName(made.Release, &made.Tools) != name {
			err = fmt.Errorf("%s tells of another layer", madeFile)
		}
		if err := c.mending(store.Layers, it, func() error { return c.layer(ctx, it, name, made, err) }); err != nil {
			return err
		}
	}
	return nil
}

// layer checks one layer; broken says what is wrong with the file that tells of it.
func (c *checker) layer(ctx context.Context, it store.Item, name string, made madeLayer, broken error) error {
	where := "tools layer " + name[:min(len(name), 12)]
	if broken != nil {
		c.report(Difference{Where: where, What: broken.Error()})
		return nil
	}
	m, err := it.Manifest()
	if err == nil && m.Digest() != made.Tools.Digest {
		err = &image.RootfsError{What: "the tools layer", Want: made.Tools.Digest, Got: m.Digest()}
	}
	if err != nil {
		c.report(Difference{Where: where, What: "its manifest isn't that of stead.lock: " + err.Error()})
		if m, err = image.LoadManifest(c.cfg.Store, made.Tools.Digest); err != nil {
			return nil //nolint:nilerr // reported; there is nothing left to compare with
		}
	}
	if err := c.item(ctx, where, it, m); err != nil {
		return err
	}
	p := puller{lock: made.Tools.lock()}
	for _, t := range append(packageTrees(p.packages()), deltaTree(made.Tools.Delta)) {
		if c.seen[t.digest] {
			continue
		}
		c.seen[t.digest] = true
		if err := c.tree(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// maxMade bounds the file that tells of a layer, in bytes.
const maxMade = 64 << 20

func readMade(it store.Item, made *madeLayer) error {
	path := filepath.Join(it.Dir, madeFile)
	text, err := readBounded(path, maxMade)
	if err == nil {
		err = decodeText(path, text, made)
	}
	return err
}
