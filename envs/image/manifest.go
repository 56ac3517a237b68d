package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/store"
)

// rootfsPrefix stands before the digest of a manifest where it names a root.
const rootfsPrefix = "tree1:"

// ManifestDigest is the digest of the blob that holds the manifest of a root.
func ManifestDigest(rootfs string) digest.Digest {
	return digest.Digest(strings.TrimPrefix(rootfs, rootfsPrefix))
}

// maxManifest bounds an encoded manifest.
const maxManifest = 512 << 20

// LoadManifest reads the manifest of a root out of the store's blobs.
func LoadManifest(st *store.Store, rootfs string) (store.Manifest, error) {
	r, err := st.OpenBlob(ManifestDigest(rootfs))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("reading the manifest of %s: %w", rootfs, err)
	}
	return store.ParseManifest(data)
}

// SaveManifest stores the manifest of a root as a blob, and returns the digest of
// the root.
func SaveManifest(ctx context.Context, st *store.Store, m store.Manifest) (string, error) {
	w, err := st.NewCompressedBlob()
	if err != nil {
		return "", err
	}
	var d digest.Digest
	if _, err = m.WriteTo(w); err == nil {
		d, err = w.Commit(ctx, "")
	}
	return rootfsPrefix + string(d), errors.Join(err, w.Close())
}
