package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact/system"
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
	dir   string // of the spools

	cache  string // file of what the snapshot before learned
	loaded bool

	fetching sync.Mutex // of reopen

	mu      sync.Mutex
	spools  []*spool // one for each job
	known   map[version]readContent
	large   map[[sha256.Size]byte]readContent // copies that are worth to be kept once
	linked  map[string]version                // of files with several names, by each of them
	names   map[version][]string              // all names of such a file
	reasons map[version]string                // why files stay behind
	failed  map[version]error
	done    int64
	total   int64
	// original gives the content of a file that is as its package brought it, where the
	// host didn't send it; nil while packages aren't laid out.
	original func(ctx context.Context, f snapshot.File) (io.ReadCloser, error)
}

// version names a file as it was at one time, by a hash of its names and change stamp:
// there may be hundreds of thousands.
type version [16]byte

func newVersion(names string, change snapshot.Stamp) version {
	h := sha256.New()
	io.WriteString(h, names+"\x00") //nolint:errcheck // a hash takes everything
	h.Write(change[:])              //nolint:errcheck // as above
	return version(h.Sum(nil)[:len(version{})])
}

// versionOf is the same for all names of a file.
func (c *contents) versionOf(f snapshot.File) version {
	if v, ok := c.linked[f.Path]; ok && f.Link != "" {
		return v
	}
	return newVersion(f.Path, f.Change)
}

// link notes which names a file with several has. It returns one of each.
func (c *contents) link(files []snapshot.File) (one []*snapshot.File) {
	groups := map[string][]*snapshot.File{}
	for i := range files {
		if f := &files[i]; f.Type == snapshot.Regular && f.Link != "" {
			groups[f.Link] = append(groups[f.Link], f)
		}
	}
	for _, group := range groups {
		names := make([]string, len(group))
		for i, f := range group {
			names[i] = f.Path
		}
		slices.Sort(names)
		v := newVersion(strings.Join(names, "\x00"), group[0].Change)
		c.names[v] = names
		for _, name := range names {
			c.linked[name] = v
		}
		one = append(one, group[0])
	}
	return one
}

// readContent is what was learned of a file.
type readContent struct {
	sha256 [sha256.Size]byte
	at     int64  // where its copy begins
	spool  uint16 // that holds the copy, counted from 1; 0 where there is none
	now    bool   // this snapshot has the file
}

func newContents(cfg Config, host snapshot.Host, rules snapshot.Rules, address string) (*contents, error) {
	dir, err := cfg.Store.WorkDir("spool")
	if err != nil {
		return nil, err
	}
	return &contents{cfg: cfg, host: host, rules: rules, dir: dir,
		cache: filepath.Join(cfg.Store.Dir(), "cache", "contents-"+digest.FromString(address).Encoded()),
		known: map[version]readContent{}, large: map[[sha256.Size]byte]readContent{}, linked: map[string]version{},
		names: map[version][]string{}, reasons: map[version]string{}, failed: map[version]error{}}, nil
}

func (c *contents) close() error {
	var err error
	for _, s := range c.spools {
		err = errors.Join(err, s.f.Close())
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

// read learns the contents of files. One member of each group of hard links is
// read for all.
func (c *contents) read(ctx context.Context, files []snapshot.File) error {
	if len(files) == 0 {
		return nil // and what was learned before isn't loaded until it is needed
	}
	if err := c.load(); err != nil {
		return err
	}
	one := c.link(files)
	for i := range files {
		if f := &files[i]; f.Type == snapshot.Regular && f.Link == "" {
			one = append(one, f)
		}
	}
	todo := one[:0]
	c.total, c.done = 0, 0
	for _, f := range one {
		v := c.versionOf(*f)
		if k, ok := c.known[v]; ok && f.Change != (snapshot.Stamp{}) {
			k.now = true
			c.known[v] = k
			continue
		}
		todo = append(todo, f)
		c.total += f.Size
	}
	return c.fetch(ctx, todo)
}

// fetch reads files from the host, in as many streams as there are jobs.
func (c *contents) fetch(ctx context.Context, files []*snapshot.File) error {
	jobs := min(c.cfg.jobs(), max(len(files), 1))
	if err := c.moreSpools(jobs); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for j := range jobs {
		part := map[string]*snapshot.File{}
		var paths []string
		for i := j; i < len(files); i += jobs {
			part[files[i].Path] = files[i]
			paths = append(paths, files[i].Path)
		}
		g.Go(func() error {
			return c.host.Read(ctx, paths, func(p string, r io.Reader, err error) error {
				return c.learn(ctx, j, *part[p], r, err)
			})
		})
	}
	return g.Wait()
}

// moreSpools makes sure that there are n spools.
func (c *contents) moreSpools(n int) error {
	for len(c.spools) < n {
		f, err := os.CreateTemp(c.dir, "copies-")
		if err != nil {
			return err
		}
		c.spools = append(c.spools, &spool{f: f})
	}
	return nil
}

// learn takes one file from the host, or the reason why it can't be read.
func (c *contents) learn(ctx context.Context, job int, f snapshot.File, r io.Reader, failed error) (err error) {
	s := c.spools[job]
	k := readContent{at: s.end, now: true}
	var reason string
	if failed != nil {
		var own io.ReadCloser
		if own, reason, failed = c.elsewhere(ctx, f, failed); own != nil {
			defer own.Close()
			r = own
		}
	}
	if failed == nil && reason == "" {
		if k.sha256, reason, failed, err = c.take(ctx, s, f, r); err != nil {
			return err
		}
	}
	v := c.versionOf(f)
	if failed == nil && reason == "" {
		if k.spool, err = uint16(job+1), s.keep(); err != nil {
			return err
		}
		if reason, err = c.judge(s, k, f, c.names[v]); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	twin, twice := c.large[k.sha256]
	if failed != nil || reason != "" || twice { // no copy of it is kept, or no second one
		if err := s.drop(k.at); err != nil {
			return err
		}
		k.at, k.spool = twin.at, twin.spool
	} else if f.Size >= largeContent {
		c.large[k.sha256] = k
	}
	delete(c.known, v)
	delete(c.reasons, v)
	delete(c.failed, v)
	if failed != nil {
		c.failed[v] = failed
	} else if c.known[v] = k; reason != "" {
		c.reasons[v] = reason
	}
	c.done += f.Size
	c.cfg.Progress.Report(snapshot.Event{Stage: "reading", Item: "/" + f.Path, Done: c.done, Total: c.total, Unit: "bytes"})
	return nil
}

// largeContent is the size in bytes from which a content is kept once for all files
// that hold it.
const largeContent = 64 << 10

// judge looks at a copy once more for each other name of its file: whether an
// assignment is a setting depends on the name.
func (c *contents) judge(s *spool, k readContent, f snapshot.File, names []string) (reason string, err error) {
	for _, name := range names {
		if name != f.Path && reason == "" && err == nil {
			reason, err = c.rules.Content(name, s.open(k.at, f.Size))
		}
	}
	return reason, err
}

// of tells what was learned of a file: the SHA-256 of its content, or why it can't
// leave, or why it couldn't be read.
func (c *contents) of(f snapshot.File) (sum, reason string, err error) {
	v := c.versionOf(f)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.known[v]
	switch {
	case c.failed[v] != nil:
		return "", "", c.failed[v]
	case !k.now:
		return "", "", errChanged
	default:
		return hex.EncodeToString(k.sha256[:]), c.reasons[v], nil
	}
}

var errChanged = errors.New("it changed during the snapshot")

// take copies one file to a spool while it is hashed and searched. failed says
// what is wrong with the file; an error means that nothing goes on.
func (c *contents) take(ctx context.Context, s *spool, f snapshot.File, r io.Reader) (sum [sha256.Size]byte, reason string, failed, err error) {
	h := sha256.New()
	n := &counter{}
	in := &sourceReader{r: io.LimitReader(r, f.Size+1), ctx: ctx}
	tee := io.TeeReader(in, io.MultiWriter(h, n, s))
	reason, err = c.rules.Content(f.Path, tee)
	if err == nil {
		if _, err = io.Copy(io.Discard, tee); err != nil {
			err = fmt.Errorf("reading /%s: %w", f.Path, err)
		}
	}
	h.Sum(sum[:0])
	switch {
	case in.err != nil:
		return sum, "", in.err, ctx.Err()
	case err != nil:
		return sum, "", nil, err
	case n.n != f.Size || changed(f, r):
		return sum, "", errChanged, nil
	default:
		return sum, reason, nil, nil
	}
}

// changed reports whether a file isn't the one of the listing any more, where its host
// can tell: what was read may be two versions of it at once.
func changed(f snapshot.File, r io.Reader) bool {
	now, ok := r.(snapshot.Stamped)
	if !ok || f.Change == (snapshot.Stamp{}) {
		return false
	}
	stamp, err := now.Stamp()
	return err != nil || stamp != f.Change
}

// gather makes sure that contents which were only remembered are there to be stored:
// all at once, and out of the store's trees where wire says that the host is far.
func (c *contents) gather(ctx context.Context, files []snapshot.File, made map[string][]byte, wire bool) error {
	var todo []*snapshot.File
	seen := map[version]bool{} // of files with several names
	for i := range files {
		f := &files[i]
		if _, ours := made[f.Path]; ours || f.Type != snapshot.Regular {
			continue
		}
		v := c.versionOf(*f)
		if c.known[v].spool == 0 && !seen[v] {
			todo = append(todo, f)
		}
		if f.Link != "" {
			seen[v] = true
		}
	}
	if wire && len(todo) > 0 {
		stored, err := c.cfg.Store.Contents(ctx)
		if err != nil {
			return err
		}
		if err := c.moreSpools(1); err != nil {
			return err
		}
		todo = slices.DeleteFunc(todo, func(f *snapshot.File) bool { return c.takeStored(stored, *f) == nil })
	}
	c.done, c.total = 0, 0
	for _, f := range todo {
		c.total += f.Size
	}
	return c.fetch(ctx, todo)
}

// takeStored copies a content out of the store. Any error means that the host has to
// be asked.
func (c *contents) takeStored(stored *store.Contents, f snapshot.File) error {
	r, err := stored.Open(f.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	s, v := c.spools[0], c.versionOf(f)
	k := c.known[v]
	k.at = s.end
	if _, err = io.Copy(s, r); err == nil {
		err = s.keep()
	}
	if err != nil {
		return errors.Join(err, s.drop(k.at))
	}
	k.spool = 1
	c.known[v] = k
	return nil
}

// ChangedError says that a file is another than it was at the beginning of the snapshot.
type ChangedError struct{ Path string }

func (e *ChangedError) Error() string { return fmt.Sprintf("reading /%s: %v", e.Path, errChanged) }

// Hint says how to go on.
func (e *ChangedError) Hint() string {
	return "take the snapshot again, when nothing writes to that file, or leave it behind with --drop"
}

// open opens a file's content for storing it. What was only remembered is read now.
func (c *contents) open(ctx context.Context, f snapshot.File) (io.ReadCloser, error) {
	v := c.versionOf(f)
	if c.known[v].spool == 0 {
		if err := c.fetch(ctx, []*snapshot.File{&f}); err != nil {
			return nil, err
		}
	}
	switch sum, reason, err := c.of(f); {
	case err != nil && err != errChanged:
		return nil, fmt.Errorf("reading /%s: %w", f.Path, err)
	case err != nil || reason != "" || sum != f.Digest || c.known[v].spool == 0:
		return nil, &ChangedError{f.Path}
	}
	k := c.known[v]
	return c.spools[k.spool-1].open(k.at, f.Size), nil
}

// copied is the copy of a file's content, nil where there is none.
func (c *contents) copied(f snapshot.File) system.Content {
	c.mu.Lock()
	k := c.known[c.versionOf(f)]
	c.mu.Unlock()
	if sum, reason, err := c.of(f); err != nil || reason != "" || f.Digest != "" && sum != f.Digest || k.spool == 0 {
		return nil
	}
	return memory{io.NewSectionReader(c.spools[k.spool-1].f, k.at, f.Size)}
}

// reopen opens a file's copy, and makes one where there is none. Several may ask at once.
func (c *contents) reopen(ctx context.Context, f snapshot.File) (system.Content, error) {
	if copied := c.copied(f); copied != nil {
		return copied, nil
	}
	c.fetching.Lock()
	defer c.fetching.Unlock()
	if err := c.fetch(ctx, []*snapshot.File{&f}); err != nil {
		return nil, err
	}
	if copied := c.copied(f); copied != nil {
		return copied, nil
	}
	return nil, &ChangedError{f.Path}
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
