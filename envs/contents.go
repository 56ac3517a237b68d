package envs

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// contents reads the files of a host that a snapshot stores: once, keeping a copy,
// so that what is hashed, searched for secrets and stored are the same bytes even
// when the host writes on. What a file held is remembered for the next snapshot.
type contents struct {
	cfg   Config
	host  snapshot.Host
	rules snapshot.Rules
	spool string // copies by digest

	mu    sync.Mutex
	known map[string]knownContent // by path, of the last snapshot
	fresh map[string]knownContent
	done  int64
	total int64
}

// knownContent is what is known of a file as it was at one time.
type knownContent struct {
	Path   []byte `json:"path"` // any bytes; only on disk
	Change string `json:"change"`
	Digest string `json:"digest"`
	Reason string `json:"reason,omitempty"` // why it stays behind
	Rules  string `json:"rules"`
	failed error
}

// unread is a file to be read: there may be hundreds of thousands.
type unread struct {
	path, change string
	size         int64
}

func newContents(cfg Config, host snapshot.Host, rules snapshot.Rules, address string) (*contents, error) {
	spool, err := cfg.Store.WorkDir("spool")
	if err != nil {
		return nil, err
	}
	c := &contents{cfg: cfg, host: host, rules: rules, spool: spool, fresh: map[string]knownContent{}}
	c.known, err = readKnown(c.cacheFile(address), rules.Version())
	return c, err
}

func (c *contents) cacheFile(address string) string {
	return filepath.Join(c.cfg.Store.Dir(), "cache", "contents-"+digest.FromString(address).Encoded())
}

// readKnown reads what was learned under the same rules.
func readKnown(path, rules string) (map[string]knownContent, error) {
	known := map[string]knownContent{}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		var k knownContent
		if err := dec.Decode(&k); err != nil {
			return known, nil // its end, or damaged: the rest is read again
		}
		if k.Rules != rules {
			continue
		}
		p := string(k.Path)
		k.Path, k.Rules = nil, rules // one copy for all
		known[p] = k
	}
}

// remember writes what was learned for the next snapshot of the same address.
func (c *contents) remember(address string) error {
	dir, err := c.cfg.Store.WorkDir("contents")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "new"))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for p, k := range c.fresh {
		k.Path = []byte(p)
		if k.failed == nil && k.Change != "" {
			err = errors.Join(err, enc.Encode(k))
		}
	}
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.cacheFile(address))
}

func (c *contents) close() error { return os.RemoveAll(c.spool) }

// read learns the contents of files. One member of each group of hard links is
// read for all.
func (c *contents) read(ctx context.Context, files iter.Seq[snapshot.File]) error {
	var todo []unread
	c.total, c.done = 0, 0
	for f := range files {
		if f.Type != snapshot.Regular || f.Link != "" && f.Link != f.Path {
			continue
		}
		if k, ok := c.fresh[f.Path]; ok && f.Change != "" && k.Change == f.Change {
			continue
		}
		k, ok := c.known[f.Path]
		if ok && f.Change != "" && k.Change == f.Change {
			c.fresh[f.Path] = k
			delete(c.known, f.Path)
			continue
		}
		todo = append(todo, unread{f.Path, f.Change, f.Size})
		c.total += f.Size
	}
	return c.fetch(ctx, todo)
}

// fetch reads files from the host, in as many streams as there are jobs.
func (c *contents) fetch(ctx context.Context, files []unread) error {
	jobs := min(c.cfg.jobs(), max(len(files), 1))
	g, ctx := errgroup.WithContext(ctx)
	for j := range jobs {
		part := map[string]unread{}
		var paths []string
		for i := j; i < len(files); i += jobs {
			part[files[i].path] = files[i]
			paths = append(paths, files[i].path)
		}
		g.Go(func() error {
			return c.host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
				k := knownContent{Change: part[p].change, Rules: c.rules.Version(), failed: err}
				if err == nil {
					if err := c.take(ctx, &k, part[p], r); err != nil {
						return err
					}
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				c.fresh[p] = k
				c.done += part[p].size
				c.cfg.Progress.Report(snapshot.Event{Stage: "reading", Item: "/" + p, Done: c.done, Total: c.total, Unit: "bytes"})
				return nil
			})
		})
	}
	return g.Wait()
}

// take copies one file to the spool while it is hashed and searched. k.failed says
// what is wrong with the file; an error means that nothing goes on.
func (c *contents) take(ctx context.Context, k *knownContent, f unread, r io.Reader) error {
	out, err := os.CreateTemp(c.spool, "new-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	h := sha256.New()
	n := &counter{}
	in := &sourceReader{r: io.LimitReader(r, f.size+1), ctx: ctx}
	tee := io.TeeReader(in, io.MultiWriter(h, n, &sparseWriter{f: out}))
	reason, err := c.rules.Content(f.path, tee)
	if err == nil {
		_, err = io.Copy(io.Discard, tee)
	}
	switch {
	case in.err != nil:
		k.failed = in.err
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("reading /%s: %w", f.path, err)
	case n.n != f.size:
		k.failed = errors.New("it changed while it was read")
		return nil
	}
	k.Digest, k.Reason = hex.EncodeToString(h.Sum(nil)), reason
	if reason != "" {
		return nil // no copy of it is kept
	}
	if err := out.Truncate(f.size); err != nil { // a hole may end it
		return err
	}
	return os.Rename(out.Name(), c.copyOf(k.Digest))
}

func (c *contents) copyOf(sha string) string { return filepath.Join(c.spool, sha) }

// open opens a file's content for storing it. What was only remembered is read now.
func (c *contents) open(ctx context.Context, f snapshot.File) (io.ReadCloser, error) {
	r, err := os.Open(c.copyOf(f.Digest))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if err := c.fetch(ctx, []unread{{f.Path, f.Change, f.Size}}); err != nil {
		return nil, err
	}
	switch k := c.fresh[f.Path]; {
	case k.failed != nil:
		return nil, k.failed
	case k.Digest != f.Digest:
		return nil, errors.New("it changed during the snapshot")
	}
	return os.Open(c.copyOf(f.Digest))
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// sourceReader tells errors of the host from those of this machine.
type sourceReader struct {
	r   io.Reader
	ctx context.Context //nolint:containedctx // lives as long as one copy
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.err = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// sparseWriter leaves holes where it is given zeros.
type sparseWriter struct{ f *os.File }

func (w *sparseWriter) Write(p []byte) (int, error) {
	if len(p) >= 4096 && store.IsZero(p) {
		_, err := w.f.Seek(int64(len(p)), io.SeekCurrent)
		return len(p), err
	}
	return w.f.Write(p)
}
