package envs

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

// Bounds of what an index may take, in bytes. That of a workstation with 4,000 packages
// takes 12 MB, and a chunk of it 300 kB.
const (
	maxIndex = 256 << 20
	maxChunk = 64 << 20
)

// readBlob reads a blob that no archive has: out of the store, else where the fleet
// keeps such things. One that neither has is a *MissingBlobError.
func (c Config) readBlob(d digest.Digest, what string, limit int64) ([]byte, error) {
	var missing *store.MissingError
	var failed error
	places := []func(digest.Digest, int64) ([]byte, error){}
	if c.Store != nil {
		places = append(places, c.Store.ReadBlob)
	}
	if c.Fleet != nil {
		places = append(places, store.Folder{Dir: c.Fleet.Blobs()}.Read)
	}
	for _, read := range places { // what is damaged in one may be whole in the other
		data, err := read(d, limit)
		if err == nil {
			return data, nil
		}
		if failed == nil || !errors.As(err, &missing) {
			failed = err
		}
	}
	switch {
	case failed == nil:
		return nil, fmt.Errorf("%s: no store and no fleet are at hand", what)
	case errors.As(failed, &missing) && c.Fleet != nil:
		return nil, &MissingBlobError{What: what, Digest: d, Remote: c.Fleet.Blobs()}
	case errors.As(failed, new(*store.MismatchError)):
		return nil, &damagedError{fmt.Errorf("%s: %w", what, failed)}
	default:
		return nil, fmt.Errorf("%s: %w", what, failed)
	}
}

// hasBlob reports whether readBlob would find something.
func (c Config) hasBlob(d digest.Digest) bool {
	return c.Store != nil && c.Store.HasBlob(d) || c.Fleet != nil && store.Folder{Dir: c.Fleet.Blobs()}.Has(d)
}

// indexChunks are the blobs that an index leads to; none where there is no index.
func indexChunks(cfg Config, index *lock.Attachment) ([]digest.Digest, error) {
	if index == nil {
		return nil, nil
	}
	text, err := cfg.readBlob(index.Digest(), "the index", maxIndex)
	if err != nil {
		return nil, err
	}
	sums, err := system.Chunks(text)
	if err != nil {
		return nil, fmt.Errorf("the index (%s): %w", index.Digest(), err)
	}
	chunks := make([]digest.Digest, len(sums))
	for i, sum := range sums {
		chunks[i] = digest.NewDigestFromEncoded(digest.SHA256, sum)
	}
	return chunks, nil
}
