package envs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Review says of every path what became of it, but for those that come out of
// their package unchanged, and for noise and state, which are summed up by folder.
type Review struct {
	Decisions  []image.Decision `json:"decisions"`
	Left       []snapshot.Left  `json:"left"`
	Unreadable []snapshot.Left  `json:"unreadable"`
}

func newReview(plan *image.Plan, inv *snapshot.Inventory) *Review {
	return &Review{Decisions: plan.Decisions, Left: inv.Left, Unreadable: inv.Unreadable}
}

// save stores the review as a blob.
func (r *Review) save(ctx context.Context, st *store.Store) (digest.Digest, error) {
	w, err := st.NewCompressedBlob()
	if err != nil {
		return "", err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return "", err
	}
	return w.Commit(ctx, "")
}

// maxReview bounds a stored review, in bytes.
const maxReview = 256 << 20

// LoadReview reads the review of a release, from the store or the fleet's blobs.
func LoadReview(ctx context.Context, cfg Config, d digest.Digest) (*Review, error) {
	err := store.Folder{Dir: cfg.Fleet.Blobs()}.Fetch(ctx, cfg.Store, d)
	var missing *store.MissingError
	if errors.As(err, &missing) {
		return nil, &MissingBlobError{What: "the review", Digest: d, Remote: cfg.Fleet.Blobs()}
	}
	if err != nil {
		return nil, err
	}
	blob, err := cfg.Store.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	var r Review
	if err := json.NewDecoder(bufio.NewReader(io.LimitReader(blob, maxReview))).Decode(&r); err != nil {
		return nil, fmt.Errorf("reading review %s: %w", d, err)
	}
	return &r, nil
}
