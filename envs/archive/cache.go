package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// cache looks for the package files that the host's own apt kept. They are a
// source of bytes; only a signed index can say whose bytes.
type cache struct{ *apt }

const cacheDir = "var/cache/apt/archives"

// maxPackage bounds a package file, in bytes.
const maxPackage = 4 << 30

// Locate takes files that no index proves into the store: nobody else may have
// them.
func (c cache) Locate(ctx context.Context, want []Want) (found Found, err error) {
	files, err := c.files.list(ctx, cacheDir)
	if err != nil || len(files) == 0 {
		return found, err
	}
	wanted := make(map[string]Want)
	var paths []string
	for _, w := range want {
		if f, ok := files[cacheName(w)]; ok && f.Size > 0 && f.Size <= maxPackage {
			wanted[f.Path] = w
			paths = append(paths, f.Path)
		}
	}
	slices.Sort(paths)
	err = c.Host.Read(ctx, slices.Compact(paths), func(p string, r io.Reader, err error) error {
		var d digest.Digest
		var size int64
		if err == nil {
			d, size, err = keep(ctx, c.Store, r)
		}
		switch {
		case errors.As(err, new(*sinkError)) || ctx.Err() != nil:
			return fmt.Errorf("storing /%s: %w", p, err)
		case err != nil:
			c.note("reading /%s: %v", p, err)
			return nil
		}
		found.Candidates = append(found.Candidates, Candidate{Want: wanted[p], Size: size, SHA256: d.Encoded(), HostPath: p})
		return nil
	})
	return found, err
}

// keep stores whatever r gives. A *sinkError is the store's failure, others are the
// host's.
func keep(ctx context.Context, st *store.Store, r io.Reader) (digest.Digest, int64, error) {
	w, err := st.NewBlob()
	if err != nil {
		return "", 0, &sinkError{err}
	}
	defer w.Close() //nolint:errcheck // drops what was not committed
	n, err := io.Copy(guard{w}, io.LimitReader(r, maxPackage+1))
	if err == nil && n > maxPackage {
		err = fmt.Errorf("it is longer than %d bytes", int64(maxPackage))
	}
	if err != nil {
		return "", 0, err
	}
	d, err := w.Commit(ctx, "")
	if err != nil {
		return "", 0, &sinkError{err}
	}
	return d, n, nil
}

// mark says of candidates that aren't in the store yet where the host may have
// them.
func (c cache) mark(ctx context.Context, cands []Candidate) error {
	if !slices.ContainsFunc(cands, func(k Candidate) bool { return k.HostPath == "" && !c.Store.HasBlob(k.Digest()) }) {
		return nil
	}
	files, err := c.files.list(ctx, cacheDir)
	if err != nil {
		return err
	}
	for i, k := range cands {
		if f, ok := files[cacheName(k.Want)]; ok && k.HostPath == "" && f.Size == k.Size {
			cands[i].HostPath = f.Path
		}
	}
	return nil
}

// cacheName is the name below the host's root that apt keeps a package file under.
func cacheName(w Want) string {
	quote := strings.NewReplacer("%", "%25", "_", "%5f", ":", "%3a")
	arch := strings.NewReplacer("%", "%25", "_", "%5f", ":", "%3a", ".", "%2e")
	return cacheDir + "/" + quote.Replace(w.Name) + "_" + quote.Replace(w.Version) + "_" + arch.Replace(w.Architecture) + ".deb"
}

// FromHost brings the files of candidates into the store from the host itself,
// where it has them and the store hasn't. A file that can't be read, or has other
// bytes, is left out with a note: Fetch may find it elsewhere.
func FromHost(ctx context.Context, h snapshot.Host, st *store.Store, cands []Candidate, progress snapshot.Progress) error {
	byPath := make(map[string][]Candidate)
	var paths []string
	var done, total int64
	for _, c := range cands {
		if c.HostPath == "" || st.HasBlob(c.Digest()) {
			continue
		}
		if byPath[c.HostPath] == nil {
			paths = append(paths, c.HostPath)
			total += c.Size
		}
		byPath[c.HostPath] = append(byPath[c.HostPath], c)
	}
	if len(paths) == 0 {
		return nil
	}
	return h.Read(ctx, paths, func(p string, r io.Reader, err error) error {
		expected := byPath[p]
		ok := false
		if err == nil {
			ok, err = copyExpected(ctx, st, r, expected)
		}
		switch {
		case errors.As(err, new(*sinkError)) || ctx.Err() != nil:
			return fmt.Errorf("copying /%s: %w", p, err)
		case err != nil:
			progress.Note("copying", fmt.Sprintf("reading /%s: %v", p, err))
		case !ok:
			progress.Note("copying", fmt.Sprintf("/%s on the host is not the file that its archive has", p))
		}
		done += expected[0].Size
		progress.Report(snapshot.Event{Stage: "copying", Item: expected[0].Name, Done: done, Total: total, Unit: "bytes"})
		return nil
	})
}

// copyExpected stores what r gives if that is one of the expected files, of one
// size. A *sinkError is the store's failure, others are the host's.
func copyExpected(ctx context.Context, st *store.Store, r io.Reader, expected []Candidate) (bool, error) {
	w, err := st.NewBlob()
	if err != nil {
		return false, &sinkError{err}
	}
	defer w.Close() //nolint:errcheck // drops what was not committed
	sum := newSummed(io.LimitReader(r, expected[0].Size+1))
	if _, err := io.Copy(guard{w}, sum); err != nil {
		return false, err
	}
	for _, c := range expected {
		if sum.is(listed{c.SHA256, c.Size}) {
			if _, err := w.Commit(ctx, c.Digest()); err != nil {
				return false, &sinkError{err}
			}
			return true, nil
		}
	}
	return false, nil
}

// guard tells failures to write from failures to read.
type guard struct{ w io.Writer }

func (g guard) Write(p []byte) (int, error) {
	n, err := g.w.Write(p)
	if err != nil {
		err = &sinkError{err}
	}
	return n, err
}
