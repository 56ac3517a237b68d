package host

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/stead-env/stead/snapshot"
)

// Bundle is a host that was written to a file by a program or a script there.
type Bundle struct {
	*listing
	Header BundleHeader

	spool    *os.File
	contents map[string]sentAt
	alias    map[string]string // other names of a file to the one whose content there is
	notes    map[string]error  // why there is no content
	original map[string]bool
	unlisted []snapshot.Left // what the walk could not read, and isn't in the listing
	left     []snapshot.Left
}

var (
	_ snapshot.Host   = (*Bundle)(nil)
	_ snapshot.Summed = (*Bundle)(nil)
)

// sentAt is where a content is in the spool.
type sentAt struct {
	at, size int64
	sum      [sha256.Size]byte
	listed   bool
}

// DamagedError says that a file is no whole bundle.
type DamagedError struct {
	Name string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("reading bundle %s: %v", e.Name, e.Err) }

// Unwrap gives the reason.
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says what helps.
func (e *DamagedError) Hint() string { return "copy it again, or make it again on the host" }

// OpenBundle reads a bundle. What is in it is kept in files without a name in dir.
func OpenBundle(ctx context.Context, name, dir string) (b *Bundle, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening bundle: %w", err)
	}
	defer f.Close()
	b = &Bundle{contents: map[string]sentAt{}, alias: map[string]string{}, notes: map[string]error{}, original: map[string]bool{}}
	if b.listing, err = newListing(dir); err != nil {
		return nil, err
	}
	b.spool, err = os.CreateTemp(dir, "bundle-")
	if err == nil {
		err = os.Remove(b.spool.Name())
	}
	if err == nil {
		err = b.load(ctx, f)
	}
	if err == nil {
		return b, nil
	}
	b.Close() //nolint:errcheck // it was never open
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, &DamagedError{name, err}
}

// Close drops what was read.
func (b *Bundle) Close() error {
	err := b.listing.Close()
	if b.spool != nil {
		err = errors.Join(err, b.spool.Close())
	}
	return err
}

// unpacked finds out how a bundle is compressed.
func unpacked(r io.Reader) (io.Reader, func(), error) {
	in := bufio.NewReaderSize(r, 256<<10)
	magic, _ := in.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(in)
		return z, func() {}, err
	case bytes.Equal(magic, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return in, func() {}, nil
}

func (b *Bundle) load(ctx context.Context, f io.Reader) error {
	in, done, err := unpacked(f)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(in)
	last := 0
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, path := h.Name, ""
		if p, ok := strings.CutPrefix(h.Name, contentPrefix); ok {
			kind, path = contentPrefix, p
		}
		at := memberOrder[kind]
		if h.Typeflag != tar.TypeReg || at == 0 || at < last || at == last && path == "" || last == 0 && at != 1 {
			return fmt.Errorf("the member %q is out of place", h.Name)
		}
		last = at
		if err := b.member(ctx, kind, path, h.Size, tr); err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
	}
	if last != memberOrder[memberManifest] {
		return errors.New("it is not whole: its last member, the manifest, is missing")
	}
	return b.match(ctx)
}

func (b *Bundle) member(ctx context.Context, kind, path string, size int64, r io.Reader) error {
	switch kind {
	case memberHeader:
		text, err := io.ReadAll(io.LimitReader(r, maxHeader))
		if err != nil {
			return err
		}
		h, err := parseHeader(string(text))
		if err == nil {
			b.Header = *h
		}
		return err
	case memberListing:
		return b.readListing(r)
	case memberAttributes:
		return b.readAttributes(ctx, r)
	case memberLeft:
		return b.readLeft(r)
	case contentPrefix:
		return b.keep(path, size, r)
	case memberUnlisted:
		return b.readNotes(r, func(path, reason string) {
			b.failed[path] = errors.New(reason)
			b.unlisted = append(b.unlisted, snapshot.Left{Path: path, Reason: reason})
		})
	case memberUnreadable:
		return b.readNotes(r, func(path, reason string) { b.notes[path] = errors.New(reason) })
	case memberWithheld:
		return b.readNotes(r, func(path, reason string) { b.notes[path] = &snapshot.WithheldError{Reason: reason} })
	case memberUnchanged:
		return fields(r, 1, func(f []string) error {
			if len(b.original) >= maxContents {
				return errors.New("too many paths")
			}
			b.original[f[0]] = true
			return nil
		})
	default:
		return b.readManifest(r)
	}
}

func (b *Bundle) readListing(r io.Reader) error {
	groups := linkGroups{}
	err := fields(r, listedFields, func(f []string) error {
		file, err := parseListed(f, groups)
		if err != nil {
			return err
		}
		return b.add(file)
	})
	if err != nil {
		return err
	}
	return b.done()
}

// readAttributes takes values in hex, and lines of getcap from a host that has no
// getfattr.
func (b *Bundle) readAttributes(ctx context.Context, r io.Reader) error {
	caps := newAttributes()
	err := fields(r, 3, func(f []string) error {
		if f[1] == "getcap" {
			line, err := hex.DecodeString(f[2])
			caps.cap(string(line))
			return err
		}
		if !keptXattr(f[1]) {
			return nil
		}
		v, err := hex.DecodeString(f[2])
		if err != nil {
			return err
		}
		value := string(v)
		if f[1] == "security.capability" {
			if value, err = capabilityV2(value); err != nil {
				return err
			}
		}
		of := b.xattrs[f[0]]
		if of == nil {
			if len(b.xattrs) >= maxAttributes {
				return errors.New("too many files with attributes")
			}
			of = map[string]string{}
			b.xattrs[f[0]] = of
		}
		if len(of) < 100 {
			of[f[1]] = value
		}
		return nil
	})
	if err == nil {
		err = caps.settle(ctx, b.listing)
	}
	maps.Copy(b.xattrs, caps.of)
	maps.Copy(b.failed, caps.bad)
	return err
}

func (b *Bundle) readLeft(r io.Reader) error {
	return fields(r, 5, func(f []string) error {
		row := snapshot.Left{Class: snapshot.Class(f[0]), Reason: f[1], Path: f[2]}
		var err, e error
		row.Files, err = strconv.ParseInt(f[3], 10, 64)
		row.Bytes, e = strconv.ParseInt(f[4], 10, 64)
		switch {
		case err != nil || e != nil || row.Files < 0 || row.Bytes < 0:
			return errors.New("a number makes no sense")
		case row.Class != snapshot.Secret && row.Class != snapshot.Noise && row.Class != snapshot.State:
			return fmt.Errorf("class %q is none of what stays behind", row.Class)
		case !snapshot.ValidPath(row.Path):
			return fmt.Errorf("bad path %q", row.Path)
		case len(b.left) >= maxNotes:
			return errors.New("too many rows")
		}
		b.left = append(b.left, row)
		return nil
	})
}

func (b *Bundle) readNotes(r io.Reader, put func(path, reason string)) error {
	n := 0
	return fields(r, 2, func(f []string) error {
		if n++; n > maxNotes {
			return errors.New("too many rows")
		}
		put(f[0], f[1]) // a path may be there for its length
		return nil
	})
}

// keep copies a content to the spool.
func (b *Bundle) keep(path string, size int64, r io.Reader) error {
	at, err := b.spool.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
		return err
	case !snapshot.ValidPath(path) || path == ".":
		return errors.New("bad path")
	case len(b.contents) >= maxContents:
		return errors.New("too many contents")
	case size > maxSpooled-at:
		return errors.New("the contents are too large")
	}
	if _, twice := b.contents[path]; twice {
		return errors.New("it is there twice")
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(b.spool, h), r)
	b.contents[path] = sentAt{at: at, size: n, sum: [sha256.Size]byte(h.Sum(nil))}
	return err
}

// readManifest compares what is in the bundle with what it says left the host.
func (b *Bundle) readManifest(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxField)
	for in.Scan() {
		s, ok := parseSent(in.Text())
		if !ok {
			return fmt.Errorf("bad line %.80q", in.Text())
		}
		c, ok := b.contents[s.Path]
		if !ok || c.listed {
			return fmt.Errorf("it names /%s, which isn't there", s.Path)
		}
		c.listed = true
		b.contents[s.Path] = c
		if c.size != s.Size || hex.EncodeToString(c.sum[:]) != s.SHA256 {
			b.notes[s.Path] = errors.New("it changed while the bundle was made")
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	for p, c := range b.contents {
		if !c.listed {
			return fmt.Errorf("it doesn't name /%s, which is there", p)
		}
	}
	return nil
}

// match finds the file of each content, and gives all names of a file one content.
func (b *Bundle) match(ctx context.Context) error {
	groups := map[string]string{} // links to the name that the content, or a note, goes by
	matched := 0
	find := func(fn func(f snapshot.File, has bool)) error {
		return b.Files(ctx, ".", func(f snapshot.File, _ error) error {
			if f.Type == snapshot.Regular {
				_, sent := b.contents[f.Path]
				fn(f, sent || b.notes[f.Path] != nil)
			}
			return nil
		})
	}
	err := find(func(f snapshot.File, has bool) {
		if c, ok := b.contents[f.Path]; ok {
			if matched++; c.size != f.Size && b.notes[f.Path] == nil {
				b.notes[f.Path] = errors.New("it changed while the bundle was made")
			}
		}
		if has && f.Link != "" && groups[f.Link] == "" {
			groups[f.Link] = f.Path
		}
	})
	if err != nil {
		return err
	}
	if matched != len(b.contents) {
		return fmt.Errorf("%d contents belong to no file of the listing", len(b.contents)-matched)
	}
	return find(func(f snapshot.File, has bool) {
		if !has && f.Link != "" && groups[f.Link] != "" {
			b.alias[f.Path] = groups[f.Link]
		}
	})
}

// Files implements snapshot.Host. What the host could not read, and didn't list, comes
// at the end of a listing of everything.
func (b *Bundle) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	if err := b.listing.Files(ctx, dir, fn); err != nil || dir != "." {
		return err
	}
	for _, u := range b.unlisted {
		_, there, err := b.lookup(ctx, u.Path)
		if err == nil && !there {
			err = fn(snapshot.File{Path: u.Path}, errors.New(u.Reason))
		}
		if err != nil && err != fs.SkipDir {
			return err
		}
	}
	return nil
}

// Read implements snapshot.Host.
func (b *Bundle) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := b.open(ctx, p)
		if err := fn(p, r, err); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) open(ctx context.Context, p string) (io.Reader, error) {
	name := p
	if a, ok := b.alias[p]; ok {
		name = a
	}
	if err := b.notes[name]; err != nil {
		return nil, err
	}
	if c, ok := b.contents[name]; ok {
		return io.NewSectionReader(b.spool, c.at, c.size), nil
	}
	f, ok, err := b.lookup(ctx, p)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, &fs.PathError{Op: "open", Path: "/" + p, Err: fs.ErrNotExist}
	case f.Type != snapshot.Regular:
		return nil, &fs.PathError{Op: "open", Path: "/" + p, Err: errNotRegular}
	}
	return nil, &snapshot.UnsentError{Path: p, Original: b.original[p]}
}

// Live implements snapshot.Host.
func (b *Bundle) Live(context.Context) (snapshot.Live, error) {
	return snapshot.Live{Kernel: b.Header.Kernel, KernelVersion: b.Header.KernelVersion,
		SystemCalls: b.Header.SystemCalls, CPU: b.Header.CPU}, nil
}

// Summed implements snapshot.Summed.
func (b *Bundle) Summed() []snapshot.Left { return b.left }
