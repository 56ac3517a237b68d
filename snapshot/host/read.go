package host

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

const (
	window     = 8192     // files that are thought of at once
	batchBytes = 64 << 20 // contents that come in one answer, unless one alone is larger
	partBytes  = 4 << 20  // contents that are packed and looked at again together
	askSum     = 64 << 10 // size from which it is worth to ask for a file's SHA-256 first
	tellBytes  = 1 << 20  // from which people are told how long it takes
)

var (
	errChanged  = errors.New("it changed since it was listed")
	errVanished = fmt.Errorf("it vanished since it was listed: %w", unix.ENOENT)
)

// Read implements snapshot.Host. What a file held is only handed on when the file was the
// same before and after: as it was listed.
func (s *Shell) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	l, err := s.listing(ctx)
	if err != nil {
		return err
	}
	for len(paths) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(paths), window)
		if err := s.readSome(ctx, l, paths[:n], fn); err != nil {
			return err
		}
		paths = paths[n:]
	}
	return nil
}

// reading is a part of a Read.
type reading struct {
	s  *Shell
	fn func(string, io.Reader, error) error
}

func (r *reading) fail(p string, err error) error {
	return r.fn(p, nil, &fs.PathError{Op: "open", Path: "/" + p, Err: err})
}

func (s *Shell) readSome(ctx context.Context, l *listing, paths []string, fn func(string, io.Reader, error) error) error {
	r := &reading{s, fn}
	there, err := l.lookups(ctx, paths)
	if err != nil {
		return err
	}
	var todo []snapshot.File
	for _, p := range paths {
		f, ok := there[p]
		switch {
		case !ok:
			err = r.fail(p, unix.ENOENT)
		case f.Type != snapshot.Regular:
			err = r.fail(p, errNotRegular)
		default:
			var done bool
			if done, err = r.resume(f); !done {
				todo = append(todo, f)
			}
		}
		if err != nil {
			return err
		}
		delete(there, p) // a path that is asked for twice is answered twice, and sent once
	}
	if todo, err = r.known(ctx, todo); err != nil {
		return err
	}
	s.tell(todo)
	for len(todo) > 0 {
		n, size := 0, int64(0)
		for n < len(todo) && (n == 0 || size+todo[n].Size <= batchBytes) {
			size += todo[n].Size
			n++
		}
		if err := r.fetch(ctx, todo[:n], size); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

// tell says how much is copied and how long that takes at most, from how fast the host
// answered until now.
func (s *Shell) tell(files []snapshot.File) {
	total := int64(0)
	for _, f := range files {
		total += f.Size
	}
	if total < tellBytes {
		return
	}
	rate := s.rate()
	s.note("copying %s in %d files from %s, in at most about %s", bytesText(total), len(files), s.name,
		(time.Duration(float64(total)/rate*float64(time.Second)) + time.Second).Truncate(time.Second))
}

// rate is how many bytes come in a second: as in the fastest answer until now, which may
// have waited for the disk there.
func (s *Shell) rate() float64 {
	rate := float64(s.wire.fastest.Load())
	if rate == 0 {
		rate = 1 << 20
	}
	if s.wire.rate > 0 {
		rate = min(rate, float64(s.wire.rate))
	}
	return rate
}

func bytesText(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d bytes", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	default:
		return fmt.Sprintf("%d MB", n/1_000_000)
	}
}

// resume hands a content on that was received before.
func (r *reading) resume(f snapshot.File) (done bool, err error) {
	p, ok := r.s.got.find(f)
	if !ok {
		return false, nil
	}
	content, err := r.s.got.open(p)
	if err != nil {
		r.s.got.forgetOne(f) // it is read again
		return false, nil
	}
	defer content.Close() //nolint:errcheck // it was only read
	return true, r.fn(f.Path, same{content, f.Change}, nil)
}

// same is a content of which it is known that the file had it when it was listed.
type same struct {
	io.Reader
	stamp snapshot.Stamp
}

var _ snapshot.Stamped = same{}

// Stamp implements snapshot.Stamped.
func (s same) Stamp() (snapshot.Stamp, error) { return s.stamp, nil }

// known asks for the SHA-256 of large files, and hands those on of which there is a copy
// here. It returns the others.
func (r *reading) known(ctx context.Context, files []snapshot.File) ([]snapshot.File, error) {
	s := r.s
	var ask []snapshot.File
	for _, f := range files {
		if f.Size >= askSum && !strings.ContainsAny(f.Path, "\\\n") { // which sha256sum would escape, or not
			ask = append(ask, f)
		}
	}
	if s.opts.Lookup == nil || !s.have["sha256sum"] || len(ask) == 0 {
		return files, nil
	}
	var sums map[string]string
	err := s.again(ctx, func() (err error) {
		sums, err = s.sums(ctx, ask)
		return err
	})
	if err != nil {
		return nil, err
	}
	var rest []snapshot.File
	for _, f := range files {
		content, ok := io.ReadCloser(nil), false
		if sum := sums[f.Path]; sum != "" {
			content, ok = s.opts.Lookup(sum)
		}
		if !ok {
			rest = append(rest, f)
			continue
		}
		err := r.fn(f.Path, same{content, f.Change}, nil)
		if err := errors.Join(err, content.Close()); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// sums asks for the SHA-256 of files; of those that changed meanwhile it has none.
func (s *Shell) sums(ctx context.Context, files []snapshot.File) (map[string]string, error) {
	sums := map[string]string{}
	listed := map[string]snapshot.Stamp{}
	for _, f := range files {
		listed[f.Path] = f.Change
	}
	names := dotted(files)
	release, err := s.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	err = s.ask(ctx, question{script: s.sumScript(), stdin: &nameStream{list: names}, zip: s.zipped(), read: func(r *bufio.Reader) error {
		for {
			if _, err := r.Peek(1); err == io.EOF {
				return nil
			}
			part := map[string]string{}
			for {
				if b, err := r.Peek(2); err != nil {
					return errBroken
				} else if string(b) == endPart+"\x00" {
					break
				}
				line, err := r.ReadSlice('\n')
				if err != nil {
					return broken(err)
				}
				if p, sum, ok := parseSum(string(line[:len(line)-1])); ok {
					part[p] = sum
				}
			}
			if _, err := endMark(r, endPart); err != nil {
				return err
			}
			err := s.looked(r, names, func(f snapshot.File) {
				if want, ok := listed[f.Path]; ok && want == f.Change {
					sums[f.Path] = part[f.Path]
				}
			})
			if err != nil {
				return err
			}
		}
	}})
	return sums, err
}

// parseSum reads a line of sha256sum: the digest, two characters, the name.
func parseSum(line string) (p, sum string, ok bool) {
	if len(line) < 67 || line[64] != ' ' {
		return "", "", false
	}
	if _, err := hex.DecodeString(line[:64]); err != nil {
		return "", "", false
	}
	return relative(line[66:]), strings.ToLower(line[:64]), true
}

// dotted are the names of files as commands get them: none begins with a dash.
func dotted(files []snapshot.File) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = "./" + f.Path
	}
	return names
}

// slot waits until one more command may run.
func (s *Shell) slot(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch reads files of the host and hands them on.
func (r *reading) fetch(ctx context.Context, files []snapshot.File, size int64) error {
	b, err := r.s.got.begin()
	if err != nil {
		return err
	}
	t := &transfer{s: r.s, b: b, some: min(max(int(int64(len(files))*partBytes/max(size, 1)), 1), 1000),
		left: files, failed: map[string]error{}}
	err = t.run(ctx)
	if err := errors.Join(err, b.close()); err != nil {
		return err
	}
	for _, f := range files {
		switch failed := t.failed[f.Path]; {
		case failed != nil:
			err = r.fail(f.Path, failed)
		default:
			var done bool
			if done, err = r.resume(f); err == nil && !done {
				err = fmt.Errorf("reading /%s: %w", f.Path, errDamaged)
			}
		}
		if err != nil {
			return err
		}
	}
	return b.drop()
}

// transfer brings files into an intake.
type transfer struct {
	s      *Shell
	b      *intake
	some   int // files in one archive
	left   []snapshot.File
	failed map[string]error
	said   complaints
	last   string // of all complaints
}

// maxApart bounds how often a stream may fall apart at a file before that is an error.
const maxApart = 100

// run goes on with what is left when the connection breaks, and one file at a time when
// an archive falls apart, as busybox's does when a file shrinks.
func (t *transfer) run(ctx context.Context) error {
	for apart := 0; len(t.left) > 0; {
		before := len(t.left)
		err := t.s.again(ctx, func() error {
			was := len(t.left)
			err := t.once(ctx)
			var lost *lostError
			if errors.As(err, &lost) && len(t.left) < was && len(t.left) > 0 {
				return t.once(ctx) // something came: that counts as a new beginning
			}
			return err
		})
		switch {
		case err == nil:
			for _, f := range t.left { // nothing was said of them after they were read
				t.fail(f, errVanished)
			}
			t.left = nil
		case !errors.Is(err, errMalformed) && !errors.Is(err, tar.ErrHeader) && err != errBroken:
			return err
		case t.some > 1:
			t.some = 1
		case len(t.left) == before:
			if apart++; apart > maxApart {
				return err
			}
			t.fail(t.left[0], errChanged)
			t.left = t.left[1:]
		}
	}
	return nil
}

// fail notes why a file isn't read, in the words of the host where it has some.
func (t *transfer) fail(f snapshot.File, err error) {
	if said := t.said.about(f.Path); said != nil {
		err = said
	}
	t.failed[f.Path] = err
}

// hear takes a complaint.
func (t *transfer) hear(line string) {
	t.said.line(line)
	t.last = line
}

// once asks for what is left, and takes from it what came whole.
func (t *transfer) once(ctx context.Context) error {
	release, err := t.s.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	wanted := make(map[string]snapshot.File, len(t.left))
	for _, f := range t.left {
		wanted[f.Path] = f
	}
	settled := map[string]bool{}
	var changed []snapshot.File
	names := dotted(t.left)
	err = t.s.ask(ctx, question{script: t.s.readScript(t.some), stdin: &nameStream{list: names}, zip: t.s.zipped(), complain: t.hear,
		read: func(r *bufio.Reader) error {
			part := map[string]stretch{}
			return archives(r, func(h *tar.Header, content io.Reader) error {
				return t.entry(h, content, wanted, part)
			}, func() error {
				err := t.s.looked(r, names, func(f snapshot.File) {
					want, ok := wanted[f.Path]
					if !ok || settled[f.Path] {
						return
					}
					settled[f.Path] = true
					if p, came := part[f.Path]; came && f.Type == snapshot.Regular && f.Change == want.Change {
						t.b.done(want, p)
					} else {
						changed = append(changed, f)
					}
				})
				clear(part)
				return err
			})
		}})
	for _, f := range changed {
		switch {
		case f.Type != snapshot.Regular:
			t.fail(f, errNotRegular)
		case f.Change != wanted[f.Path].Change:
			t.fail(f, errChanged)
		case t.last != "":
			t.fail(f, errors.New(t.last))
		default:
			t.fail(f, errors.New("tar there left it out"))
		}
	}
	var left []snapshot.File
	for _, f := range t.left {
		if !settled[f.Path] {
			left = append(left, f)
		}
	}
	t.left = left
	return err
}

// entry takes a member of an archive. A file's second name comes as a link to the first.
func (t *transfer) entry(h *tar.Header, content io.Reader, wanted map[string]snapshot.File, part map[string]stretch) error {
	p := relative(h.Name)
	f, ok := wanted[p]
	if _, twice := part[p]; !ok || twice {
		return nil
	}
	for name := range tarXattrs(h) {
		if _, listed := f.Xattrs[name]; !listed {
			t.s.more.Do(func() {
				t.s.note("/%s has an attribute that can't be listed without getfattr: that of files is left", p)
			})
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		if h.Size != f.Size {
			return nil // it changed, which is seen again afterwards
		}
		at, err := t.b.write(content, f.Size)
		if err != nil {
			return err
		}
		part[p] = at
	case tar.TypeLink:
		if first, ok := part[relative(h.Linkname)]; ok && first.size == f.Size {
			part[p] = first
		}
	}
	return nil
}
