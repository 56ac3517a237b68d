package envs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

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
	Needed     []Needed         `json:"needed"`
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
	if err := r.write(w); err != nil {
		return "", err
	}
	return w.Commit(ctx, "")
}

// decision is a row of a stored review.
type decision struct {
	image.Decision
	Raw []byte `json:"raw,omitempty"` // the path, where it isn't UTF-8, which JSON asks for
}

func spell(d image.Decision) decision {
	if utf8.ValidString(d.Path) {
		return decision{Decision: d}
	}
	return decision{d, []byte(d.Path)}
}

func (d decision) plain() image.Decision {
	if d.Raw != nil {
		d.Path = string(d.Raw)
	}
	return d.Decision
}

func same[T any](row T) T { return row }

// WriteJSON writes the review as it is stored.
func (r *Review) WriteJSON(w io.Writer) error { return r.write(w) }

// write encodes row by row: there may be hundreds of thousands.
func (r *Review) write(w io.Writer) error {
	enc := json.NewEncoder(w)
	_, err := io.WriteString(w, `{"decisions":[`)
	err = errors.Join(err, writeRows(w, enc, r.Decisions, spell))
	_, e := io.WriteString(w, `],"left":[`)
	err = errors.Join(err, e, writeRows(w, enc, r.Left, same[snapshot.Left]))
	_, e = io.WriteString(w, `],"unreadable":[`)
	err = errors.Join(err, e, writeRows(w, enc, r.Unreadable, same[snapshot.Left]))
	_, e = io.WriteString(w, `],"needed":[`)
	err = errors.Join(err, e, writeRows(w, enc, r.Needed, same[Needed]))
	_, e = io.WriteString(w, "]}\n")
	return errors.Join(err, e)
}

func writeRows[T, Row any](w io.Writer, enc *json.Encoder, rows []T, row func(T) Row) error {
	for i := range rows {
		if i > 0 {
			if _, err := io.WriteString(w, ","); err != nil {
				return err
			}
		}
		if err := enc.Encode(row(rows[i])); err != nil {
			return err
		}
	}
	return nil
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
	in := bufio.NewReader(io.LimitReader(blob, maxReview))
	dec := json.NewDecoder(in)
	r, err := readReview(dec)
	if err == nil { // to the end: what it was is known there
		var after int64
		if after, err = io.Copy(io.Discard, io.MultiReader(dec.Buffered(), in)); err == nil && after > 1 {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading review %s: %w", d, err)
	}
	return r, nil
}

// readReview reads what write wrote, row by row as well. Parts that it doesn't know
// are passed over.
func readReview(dec *json.Decoder) (*Review, error) {
	var r Review
	err := expect(dec, '{')
	for err == nil && dec.More() {
		var part json.Token
		if part, err = dec.Token(); err != nil {
			break
		}
		switch part {
		case "decisions":
			r.Decisions, err = readRows(dec, func(row decision) image.Decision { return row.plain() })
		case "left":
			r.Left, err = readRows(dec, same[snapshot.Left])
		case "unreadable":
			r.Unreadable, err = readRows(dec, same[snapshot.Left])
		case "needed":
			r.Needed, err = readRows(dec, same[Needed])
		default:
			err = dec.Decode(new(json.RawMessage))
		}
	}
	if err == nil {
		err = expect(dec, '}')
	}
	return &r, err
}

func readRows[T, Row any](dec *json.Decoder, plain func(Row) T) (rows []T, err error) {
	if err := expect(dec, '['); err != nil {
		return nil, err
	}
	for dec.More() {
		var row Row
		if err := dec.Decode(&row); err != nil {
			return nil, err
		}
		rows = append(rows, plain(row))
	}
	return rows, expect(dec, ']')
}

// expect takes the next token, which has to be the delimiter.
func expect(dec *json.Decoder, d json.Delim) error {
	t, err := dec.Token()
	if err == nil && t != d {
		err = fmt.Errorf("%v in the place of %v", t, d)
	}
	return err
}
