package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// File is a file to be fetched.
type File struct {
	Name   string // for people: "bash 5.2.15-2"
	Digest digest.Digest
	Size   int64    // bytes, exactly
	URLs   []string // http, https or file; each is tried until one gives the file
}

// FetchOptions are the ways of a transfer. The zero value will do.
type FetchOptions struct {
	Parallel int           // files at a time; 4
	Stall    time.Duration // a transfer that brings no byte for so long is cut; 30 s
	Attempts int           // of one URL without getting further; 5
	Backoff  time.Duration // before the second attempt, then doubled each time; 500 ms
	Client   *http.Client  // nil: one that honors the proxies of the environment
	Pacer    *Pacer        // for the servers that want to be asked slowly
	Progress snapshot.Progress
}

func (o FetchOptions) withDefaults() FetchOptions {
	o.Parallel = cmp.Or(max(o.Parallel, 0), 4)
	o.Stall = cmp.Or(max(o.Stall, 0), 30*time.Second)
	o.Attempts = cmp.Or(max(o.Attempts, 0), 5)
	o.Backoff = cmp.Or(max(o.Backoff, 0), 500*time.Millisecond)
	if o.Client == nil {
		o.Client = defaultClient()
	}
	return o
}

// Try is one address of a file and why it didn't give the file.
type Try struct {
	URL string // without a password
	Err error
}

// FetchError says that a file could be had nowhere.
type FetchError struct {
	Name   string
	Digest digest.Digest
	Tries  []Try // one for each address
}

func (e *FetchError) Error() string {
	if len(e.Tries) == 0 {
		return fmt.Sprintf("fetching %s: no address is known for it", e.Name)
	}
	tries := make([]string, len(e.Tries))
	for i, t := range e.Tries {
		tries[i] = t.URL + ": " + t.Err.Error()
	}
	return fmt.Sprintf("fetching %s: %s", e.Name, strings.Join(tries, "; "))
}

func (e *FetchError) Unwrap() []error {
	errs := make([]error, len(e.Tries))
	for i, t := range e.Tries {
		errs[i] = t.Err
	}
	return errs
}

// FetchErrors are the files that could not be fetched, sorted by name.
type FetchErrors []*FetchError

// shownErrors is how many files an error names before it counts the rest.
const shownErrors = 8

func (e FetchErrors) Error() string {
	var lines []string
	for _, f := range e[:min(len(e), shownErrors)] {
		lines = append(lines, f.Error())
	}
	if n := len(e) - shownErrors; n > 0 {
		lines = append(lines, fmt.Sprintf("and %d more files could not be fetched", n))
	}
	return strings.Join(lines, "\n")
}

func (e FetchErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, f := range e {
		errs[i] = f
	}
	return errs
}

// Hint says how to go on.
func (e FetchErrors) Hint() string {
	return "the files that came are kept; try again, or name another mirror in fleet.toml"
}

// Fetch brings files into the store, several at a time, and leaves out those that
// it has. Every file is tried; those that could be had nowhere are a FetchErrors.
func Fetch(ctx context.Context, st *store.Store, files []File, opts FetchOptions) error {
	files = absent(st, files)
	if len(files) == 0 {
		return nil
	}
	f := newFetcher(opts, new(health))
	for _, file := range files {
		f.total += file.Size
	}
	f.report("")
	var mu sync.Mutex
	var failed FetchErrors
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(f.opts.Parallel)
	for _, file := range files {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := f.toStore(gctx, st, file)
			var fe *FetchError
			if errors.As(err, &fe) {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fe)
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(failed) > 0 {
		slices.SortFunc(failed, func(a, b *FetchError) int { return strings.Compare(a.Name, b.Name) })
		return failed
	}
	return nil
}

// absent are the files that the store hasn't got, each once.
func absent(st *store.Store, files []File) (out []File) {
	seen := make(map[digest.Digest]bool)
	for _, f := range files {
		if !seen[f.Digest] && !st.HasBlob(f.Digest) {
			out = append(out, f)
		}
		seen[f.Digest] = true
	}
	return out
}

// fetcher is what the transfers of one run share.
type fetcher struct {
	opts  FetchOptions
	hosts *health
	total int64
	done  atomic.Int64
	shown atomic.Int64 // what done was when it was reported last
}

func newFetcher(opts FetchOptions, hosts *health) *fetcher {
	return &fetcher{opts: opts.withDefaults(), hosts: hosts}
}

// advance counts n bytes, negative where bytes have to be fetched again.
func (f *fetcher) advance(name string, n int64) {
	const step = 128 << 10
	done, shown := f.done.Add(n), f.shown.Load()
	if (done-shown >= step || done == f.total) && f.shown.CompareAndSwap(shown, done) {
		f.report(name)
	}
}

func (f *fetcher) report(name string) {
	f.opts.Progress.Report(snapshot.Event{Stage: "fetching", Item: name,
		Done: f.done.Load(), Total: f.total, Unit: "bytes"})
}

// toStore fetches one file. The error is a *FetchError where no address gave it;
// others, such as a full disk, end the whole run.
func (f *fetcher) toStore(ctx context.Context, st *store.Store, file File) (err error) {
	if err := file.Digest.Validate(); err != nil {
		return &FetchError{Name: file.Name, Digest: file.Digest, Tries: []Try{{URL: "any address", Err: err}}}
	}
	w, err := st.NewBlob()
	if err != nil {
		return fmt.Errorf("storing %s: %w", file.Name, err)
	}
	defer w.Close() //nolint:errcheck // drops what was not committed
	failed := &FetchError{Name: file.Name, Digest: file.Digest}
	for _, u := range f.hosts.order(file.URLs) {
		t := &transfer{fetcher: f, name: file.Name, url: u, size: file.Size, limit: file.Size, sink: w, resume: true}
		t.commit = func() error { _, err := w.Commit(ctx, file.Digest); return err }
		err := t.run(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, new(*sinkError)):
			return fmt.Errorf("storing %s: %w", file.Name, err)
		}
		failed.Tries = append(failed.Tries, Try{URL: redact(u), Err: err})
	}
	return failed
}

// redact drops the password from an address.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "an address that is no URL"
	}
	u.User = nil
	return u.String()
}

// health remembers which servers don't answer, so that an unreachable one costs
// its time-outs once and not for each of 500 files.
type health struct {
	mu     sync.Mutex
	failed map[string]int // connections in a row that failed, by host
}

func hostOf(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Host
	}
	return ""
}

// note counts an attempt to reach a URL's server.
func (h *health) note(raw string, reached bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.failed = make(map[string]int)
	}
	if host := hostOf(raw); reached {
		h.failed[host] = 0
	} else {
		h.failed[host]++
	}
}

func (h *health) count(raw string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed[hostOf(raw)]
}

// order puts servers that fail behind the others.
func (h *health) order(urls []string) []string {
	return slices.SortedStableFunc(slices.Values(urls), func(a, b string) int {
		return cmp.Compare(min(h.count(a), 3), min(h.count(b), 3))
	})
}
