package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// current looks into the indexes that the host's archives serve today.
type current struct{ *apt }

func (c current) Locate(ctx context.Context, want []Want) (found Found, err error) {
	if err := c.load(ctx); err != nil {
		return found, err
	}
	for _, s := range c.sources {
		if len(want) == 0 {
			break
		}
		if _, ok := s.local(); !ok && c.Offline {
			continue
		}
		cands, err := c.search(ctx, s, want)
		if ctx.Err() != nil {
			return found, context.Cause(ctx)
		}
		if err != nil && errors.As(err, new(*sinkError)) {
			return found, err
		}
		found.Candidates = append(found.Candidates, cands...)
		want = missing(want, cands)
		if err != nil {
			p := c.problem("the current index", s, err)
			p.Broken = isBroken(err) && !c.listed[s.uri+" "+s.suite]
			found.Problems = append(found.Problems, p)
		}
	}
	return found, nil
}

// search looks into all indexes of one source; what it found counts even where an
// index failed.
func (c current) search(ctx context.Context, s source, want []Want) ([]Candidate, error) {
	rel, err := c.release(ctx, s)
	if err != nil {
		return nil, err
	}
	return c.searchRelease(ctx, s, rel, want)
}

// searchRelease is search with the signed file at hand.
func (c current) searchRelease(ctx context.Context, s source, rel *release, want []Want) ([]Candidate, error) {
	stems := c.stems(s, rel, want)
	if len(stems) == 0 {
		return nil, errors.New("its InRelease lists no index of packages with a SHA-256 digest for this host")
	}
	var hits []hit
	var errs []error
	for _, stem := range stems {
		if c.searched[searchKey(rel, stem)] {
			continue
		}
		var h []hit
		if err := c.index(ctx, s, rel, stem, searching(ctx, set(want), &h)); err != nil {
			errs = append(errs, err)
			continue
		}
		c.searched[searchKey(rel, stem)] = true
		hits = append(hits, h...)
	}
	cands, err := c.candidates(ctx, s, rel, hits)
	if err != nil {
		return nil, &sinkError{err}
	}
	return cands, errors.Join(errs...)
}

// release gets the signed file of a source from the first address where it is good.
func (c current) release(ctx context.Context, s source) (*release, error) {
	get := c.overNetwork
	bases := append([]string{s.uri}, c.Mirrors[s.uri]...)
	if dir, ok := s.local(); ok {
		get, bases = c.onHost, []string{dir}
	}
	var errs []error
	for _, base := range bases {
		blob, err := signedFile(ctx, get, strings.TrimRight(base, "/")+"/"+escapePath(s.dir()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rel, err := c.verify(s, blob)
		if err == nil {
			return rel, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// signedFile gets the InRelease below dir, or the older pair of files.
func signedFile(ctx context.Context, get func(context.Context, string) ([]byte, error), dir string) ([]byte, error) {
	blob, err := get(ctx, dir+"InRelease")
	if err == nil || !errors.Is(err, errAbsent) && !isNotFound(err) {
		return blob, err
	}
	text, err := get(ctx, dir+"Release")
	if err != nil {
		return nil, err
	}
	sig, err := get(ctx, dir+"Release.gpg")
	if err != nil {
		return nil, err
	}
	return joinDetached(text, sig)
}

var errAbsent = errors.New("it is not there")

// onHost reads a file of an archive that lies in the host's own file system.
func (c current) onHost(ctx context.Context, name string) ([]byte, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if real, err := c.files.resolve(ctx, name); err != nil {
		return nil, err
	} else if real == "" {
		return nil, fmt.Errorf("reading /%s: %w", name, errAbsent)
	}
	content, failed, err := c.files.slurp(ctx, []string{name}, maxRelease)
	if err == nil {
		err = failed[name]
	}
	return content[name], err
}

// memory is a sink for small files.
type memory struct{ bytes.Buffer }

func (m *memory) Size() int64  { return int64(m.Len()) }
func (m *memory) Reset() error { m.Buffer.Reset(); return nil }

// overNetwork gets a small file whose digest nobody knows beforehand.
func (c current) overNetwork(ctx context.Context, url string) ([]byte, error) {
	var m memory
	t := &transfer{fetcher: newFetcher(c.quiet(), &c.hosts), name: path.Base(url), url: url, size: -1, limit: maxRelease, sink: &m}
	if err := t.run(ctx); err != nil {
		return nil, fmt.Errorf("fetching %s: %w", redact(url), err)
	}
	return m.Bytes(), nil
}

// quiet are the options of transfers that tell notes alone: how much is to come isn't
// known.
func (a *apt) quiet() FetchOptions {
	opts := a.Fetch
	opts.Progress = func(e snapshot.Event) {
		if e.Note != "" {
			a.Fetch.Progress.Report(e)
		}
	}
	return opts
}

// index reads one index, in the best compression that there is.
func (c current) index(ctx context.Context, s source, rel *release, stem string, read scan) error {
	if dir, ok := s.local(); ok {
		return c.hostIndex(ctx, path.Join(dir, s.dir(), stem), rel, stem, read)
	}
	var err error
	for _, e := range endings {
		l, ok := rel.files[stem+e]
		if !ok || l.size > maxIndex {
			continue
		}
		if err = c.ensure(ctx, s, rel, stem+e, l); isNotFound(err) || errors.Is(err, errOffline) {
			continue // archives list files that they don't serve
		} else if err != nil {
			return err
		}
		if err = c.stored(rel, stem, e, l, read); !errors.As(err, new(*store.MismatchError)) {
			return err
		}
		if err := c.Store.DropBlob(l.digest()); err != nil { // the disk spoiled it: once more
			return &sinkError{err}
		}
		if err = c.ensure(ctx, s, rel, stem+e, l); err != nil {
			return err
		}
		return c.stored(rel, stem, e, l, read)
	}
	return err
}

// stored reads an index that is in the store. The error is a *store.MismatchError where
// it isn't any more what it was.
func (c current) stored(rel *release, stem, ending string, l listed, read scan) error {
	r, err := c.Store.OpenBlob(l.digest())
	if err != nil {
		return &sinkError{err}
	}
	defer r.Close()
	if err = readIndex(rel, stem, ending, r, read); err == nil {
		return nil
	}
	if damaged := c.Store.CheckBlob(l.digest()); damaged != nil { // a decoder may have met it first
		return damaged
	}
	return err
}

// ensure brings an index into the store, where it is kept by its digest and so
// fetched once.
func (c current) ensure(ctx context.Context, s source, rel *release, name string, l listed) error {
	if l.size == 0 {
		return errors.New("the index is empty")
	}
	if c.Offline && !c.Store.HasBlob(l.digest()) {
		return errOffline
	}
	err := Fetch(ctx, c.Store, []File{c.file(s, rel, name, l)}, c.Fetch)
	if err != nil && !errors.As(err, new(FetchErrors)) {
		return &sinkError{err}
	}
	return err
}

// file is an index and where it can be had.
func (c current) file(s source, rel *release, name string, l listed) File {
	names := []string{name}
	if rel.byHash { // the plain name may be a newer index already
		names = []string{path.Join(path.Dir(name), "by-hash/SHA256", l.sha256), name}
	}
	var urls []string
	for _, n := range names {
		for _, base := range slices.Concat([]string{s.uri}, c.mirrors(s)) {
			if s.past && n == name && !isTree(base) {
				continue
			}
			urls = append(urls, strings.TrimRight(base, "/")+"/"+escapePath(s.dir()+n))
		}
	}
	return File{Name: s.suite + " " + name, Digest: l.digest(), Size: l.size, URLs: urls}
}

// isBroken reports whether an archive's answer will be another one when it works.
func isBroken(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code >= 500 || status.Code == http.StatusTooManyRequests
	}
	var bad pgperrors.SignatureError
	if errors.As(err, &bad) { // by a key that is trusted; apt takes no SHA-1 either
		return !strings.HasPrefix(string(bad), "insecure")
	}
	for _, e := range []error{errOther, errCutOff, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, new(*SizeError))
}

func isNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

// hostIndex reads an index in the host's own file system.
func (c current) hostIndex(ctx context.Context, file string, rel *release, stem string, read scan) error {
	for _, e := range endings {
		real, err := c.files.resolve(ctx, file+e)
		if err != nil {
			return err
		}
		if real == "" {
			continue
		}
		var failed error
		err = c.Host.Read(ctx, []string{real}, func(_ string, r io.Reader, err error) error {
			if failed = err; err == nil {
				failed = readIndex(rel, stem, e, r, read)
			}
			return nil
		})
		return errors.Join(err, failed)
	}
	return fmt.Errorf("reading /%s: %w", file, errAbsent)
}
