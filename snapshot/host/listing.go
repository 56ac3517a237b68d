package host

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/stead-env/stead/snapshot"
)

// listing holds the metadata of a host that isn't a folder of this machine, as one
// walk brought it: each folder before all that lies below it. It is on disk: a host
// may have millions of files.
type listing struct {
	f       *os.File // records
	w       *bufio.Writer
	end     int64
	folders map[string]*span
	open    []*span // folders around the last record, the root first
	last    string  // path of the last record that isn't a folder, against repetition

	xattrs map[string]map[string]string // of the few that have any
	failed map[string]error             // what could not be read, or not all of it
}

// span is where the records of a folder and of all below it lie.
type span struct {
	path     string
	from, to int64 // to is -1 while it is open
}

// maxListed bounds the records of a listing.
const maxListed = 50_000_000

// maxTarget bounds where a link leads, in bytes: PATH_MAX of Linux.
const maxTarget = 4096

var errOrder = errors.New("the listing is out of order")

// newListing makes an empty listing in a folder for temporary files. The file has no
// name any more when it returns.
func newListing(dir string) (*listing, error) {
	f, err := os.CreateTemp(dir, "listing-")
	if err != nil {
		return nil, err
	}
	return &listing{f: f, w: bufio.NewWriterSize(f, 256<<10), folders: map[string]*span{},
		xattrs: map[string]map[string]string{}, failed: map[string]error{}}, os.Remove(f.Name())
}

// Close drops the listing.
func (l *listing) Close() error { return l.f.Close() }

// add takes the next entry of the walk. The root comes first, a folder before what is
// in it. Nothing but the order and the spelling of its path is checked.
func (l *listing) add(f snapshot.File) error {
	if !snapshot.ValidPath(f.Path) {
		return fmt.Errorf("bad path %q", f.Path)
	}
	if len(f.Target) > maxTarget {
		return fmt.Errorf("%q: a link to a path of %d bytes", "/"+f.Path, len(f.Target))
	}
	if f.Path == "." != (len(l.folders) == 0) || f.Path == "." && f.Type != snapshot.Dir {
		return fmt.Errorf("%w at %q", errOrder, "/"+f.Path)
	}
	if f.Path != "." {
		up := path.Dir(f.Path)
		for len(l.open) > 0 && l.open[len(l.open)-1].path != up {
			l.open[len(l.open)-1].to = l.end
			l.open = l.open[:len(l.open)-1]
		}
		if len(l.open) == 0 || f.Path == l.last {
			return fmt.Errorf("%w at %q", errOrder, "/"+f.Path)
		}
	}
	if f.Type == snapshot.Dir {
		if l.folders[f.Path] != nil {
			return fmt.Errorf("%w at %q", errOrder, "/"+f.Path)
		}
		s := &span{f.Path, l.end, -1}
		l.folders[f.Path] = s
		l.open = append(l.open, s)
	}
	l.last = f.Path
	n, err := l.w.Write(encodeFile(l.w.AvailableBuffer(), &f))
	if l.end += int64(n); l.end > maxListed*64 {
		return fmt.Errorf("a listing of more than %d bytes", maxListed*64)
	}
	return err
}

// done ends the walk.
func (l *listing) done() error {
	for _, s := range l.open {
		s.to = l.end
	}
	l.open = nil
	if len(l.folders) == 0 {
		return fmt.Errorf("an empty listing")
	}
	return l.w.Flush()
}

// Files answers as snapshot.Host does.
func (l *listing) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := l.folders[dir]
	if s == nil { // a file, or nothing: it lies among what is right in its folder
		if up := l.folders[path.Dir(dir)]; up == nil || !snapshot.ValidPath(dir) {
			return nil
		} else if f, ok, err := l.find(ctx, up, dir); err != nil || !ok {
			return err
		} else if err := fn(l.complete(f)); err != fs.SkipDir {
			return err
		}
		return nil
	}
	return l.walk(ctx, s, func(f snapshot.File) error { return fn(l.complete(f)) })
}

// lookup finds one entry.
func (l *listing) lookup(ctx context.Context, p string) (found snapshot.File, ok bool, err error) {
	err = l.Files(ctx, p, func(f snapshot.File, _ error) error {
		found, ok = f, true
		return fs.SkipDir
	})
	return found, ok, err
}

// complete adds what came beside the walk.
func (l *listing) complete(f snapshot.File) (snapshot.File, error) {
	if f.Type != snapshot.Symlink {
		f.Xattrs = l.xattrs[f.Path]
	}
	err := l.failed[f.Path]
	if err != nil {
		err = &fs.PathError{Op: "read", Path: "/" + f.Path, Err: err}
	}
	return f, err
}

// find looks for an entry right in a folder, without its subfolders.
func (l *listing) find(ctx context.Context, s *span, p string) (found snapshot.File, ok bool, err error) {
	err = l.walk(ctx, s, func(f snapshot.File) error {
		switch {
		case f.Path == p:
			found, ok = f, true
			return fs.SkipAll
		case f.Type == snapshot.Dir && f.Path != s.path:
			return fs.SkipDir
		}
		return nil
	})
	return found, ok, err
}

// walk goes through the records of a folder. SkipDir leaves a folder out, SkipAll
// ends it well.
func (l *listing) walk(ctx context.Context, s *span, fn func(snapshot.File) error) error {
	at := s.from
	for at < s.to {
		r := bufio.NewReaderSize(io.NewSectionReader(l.f, at, s.to-at), 128<<10)
		for n := 0; ; n++ {
			if n%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			f, size, err := decodeFile(r)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("reading the listing: %w", err)
			}
			at += size
			err = fn(f)
			if err == fs.SkipAll || err == fs.SkipDir && f.Path == s.path {
				return nil
			}
			if err == fs.SkipDir && f.Type == snapshot.Dir {
				below := l.folders[f.Path]
				skip := below.to - at
				if at = below.to; skip <= int64(r.Buffered()) {
					r.Discard(int(skip)) //nolint:errcheck // it is buffered
					continue
				}
				break
			}
			if err != nil && err != fs.SkipDir {
				return err
			}
		}
	}
	return nil
}

// encodeFile appends a record: its length, then its fields. What is only in a tree is
// left out.
func encodeFile(b []byte, f *snapshot.File) []byte {
	body := make([]byte, 0, 256)
	body = append(body, byte(f.Type))
	for _, n := range [...]uint64{uint64(f.Mode), uint64(f.UID), uint64(f.GID), uint64(f.Size)} {
		body = binary.AppendUvarint(body, n)
	}
	body = binary.AppendVarint(body, f.MTime)
	for _, s := range [...]string{f.Path, f.Target, f.Link} {
		body = append(binary.AppendUvarint(body, uint64(len(s))), s...)
	}
	body = append(body, f.Change[:]...)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

var errRecord = errors.New("a malformed record")

func decodeFile(r *bufio.Reader) (f snapshot.File, size int64, err error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return f, 0, err
	}
	if n > 64<<10 {
		return f, 0, errRecord
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return f, 0, errRecord
	}
	size = int64(n) + int64(len(binary.AppendUvarint(nil, n)))
	number := func() uint64 {
		v, k := binary.Uvarint(body)
		if k <= 0 {
			err = errRecord
			return 0
		}
		body = body[k:]
		return v
	}
	if len(body) == 0 {
		return f, 0, errRecord
	}
	f.Type, body = snapshot.Type(body[0]), body[1:]
	f.Mode, f.UID, f.GID, f.Size = uint32(number()), uint32(number()), uint32(number()), int64(number())
	v, k := binary.Varint(body)
	if k <= 0 {
		return f, 0, errRecord
	}
	f.MTime, body = v, body[k:]
	text := func() string {
		n := number()
		if err != nil || n > uint64(len(body)) {
			err = errRecord
			return ""
		}
		s := string(body[:n])
		body = body[n:]
		return s
	}
	f.Path, f.Target, f.Link = text(), text(), text()
	if err != nil || len(body) != len(f.Change) {
		return f, 0, errRecord
	}
	f.Change = snapshot.Stamp(body)
	return f, size, nil
}

// lookups finds many entries, going through each folder once.
func (l *listing) lookups(ctx context.Context, paths []string) (map[string]snapshot.File, error) {
	there := make(map[string]snapshot.File, len(paths))
	in := map[string]map[string]bool{}
	for _, p := range paths {
		up := path.Dir(p)
		if !snapshot.ValidPath(p) || l.folders[up] == nil {
			continue
		}
		if in[up] == nil {
			in[up] = map[string]bool{}
		}
		in[up][p] = true
	}
	for up, wanted := range in {
		s := l.folders[up]
		err := l.walk(ctx, s, func(f snapshot.File) error {
			if wanted[f.Path] {
				f, _ = l.complete(f)
				there[f.Path] = f
				if delete(wanted, f.Path); len(wanted) == 0 {
					return fs.SkipAll
				}
			}
			if f.Type == snapshot.Dir && f.Path != s.path {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return there, nil
}
