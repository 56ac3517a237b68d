package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// found is an entry as find or stat tells it.
type found struct {
	snapshot.File
	inode
	names uint64 // hard links
}

// maxFoundField bounds a field: a path of Linux is at most 4,096 bytes, more than which find
// can reach by steps.
const maxFoundField = 64 << 10

var errMalformed = errors.New("a malformed record")

// foundReader reads the records of a find, up to the mark that ends them.
type foundReader struct {
	r      *bufio.Reader
	status int // of find, once next gave io.EOF
}

// field reads up to the next NUL. What it returns is valid until the next call.
func (f *foundReader) field() ([]byte, error) {
	b, err := f.r.ReadSlice(0)
	switch {
	case err == bufio.ErrBufferFull || len(b) > maxFoundField:
		return nil, errMalformed
	case err != nil:
		return nil, errBroken
	}
	return b[:len(b)-1], nil
}

// number reads a field of digits.
func (f *foundReader) number(base, bits int) (uint64, error) {
	b, err := f.field()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(b), base, bits)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is no number", errMalformed, b)
	}
	return n, nil
}

// next reads a record; io.EOF comes at the mark.
func (f *foundReader) next() (found, error) {
	var e found
	kind, err := f.field()
	if err != nil {
		return e, err
	}
	if string(kind) == endWhole {
		n, err := f.number(10, 16)
		if err != nil {
			return e, err
		}
		f.status = int(n)
		return e, io.EOF
	}
	if len(kind) != 1 || bytes.IndexByte([]byte("fdlpscbDU?"), kind[0]) < 0 {
		return e, fmt.Errorf("%w: %q is no type", errMalformed, kind)
	}
	e.Type = snapshot.Type(kind[0])
	var n [8]uint64
	var times [2][2]int64
	for i, base := range [...]int{8, 10, 10, 10, 0, 0, 10, 10, 10} {
		if base == 0 {
			b, err := f.field()
			if err == nil {
				times[i-4], err = parseTime(string(b))
			}
			if err != nil {
				return e, err
			}
			continue
		}
		v, err := f.number(base, [...]int{16, 32, 32, 63, 0, 0, 64, 64, 64}[i])
		if err != nil {
			return e, err
		}
		if i > 5 {
			n[i-2] = v
		} else {
			n[i] = v
		}
	}
	p, err := f.field()
	if err != nil {
		return e, err
	}
	e.Path = relative(string(p))
	target, err := f.field()
	if err != nil {
		return e, err
	}
	if e.Type == snapshot.Symlink {
		e.Target = string(target)
	}
	e.fill(n[0], n[1], n[2], n[3], inode{n[4], n[5]}, n[6], times)
	return e, nil
}

// fill completes an entry with what its inode says.
func (e *found) fill(mode, uid, gid, size uint64, i inode, names uint64, times [2][2]int64) {
	e.Mode, e.UID, e.GID, e.MTime = uint32(mode)&0o7777, uint32(uid), uint32(gid), times[0][0]
	e.inode, e.names = i, names
	e.Change = stamp(i, int64(size), times[0], times[1])
	if e.Type == snapshot.Regular {
		e.Size = int64(size)
	}
}

// relative turns a path as find prints it into one of a host.
func relative(p string) string {
	return strings.TrimPrefix(p, "./")
}

// parseTime reads seconds with a fraction, which counts up from them even before 1970.
func parseTime(s string) (t [2]int64, err error) {
	whole, fraction, _ := strings.Cut(s, ".")
	if t[0], err = strconv.ParseInt(whole, 10, 64); err == nil {
		t[1], err = nanoseconds(fraction)
	}
	if err != nil {
		return t, fmt.Errorf("%w: %q is no time", errMalformed, s)
	}
	return t, nil
}

// nanoseconds reads the digits after a point; find prints ten.
func nanoseconds(digits string) (int64, error) {
	const nine = "000000000"
	if len(digits) > 32 || strings.Trim(digits, "0123456789") != "" {
		return 0, errMalformed
	}
	return strconv.ParseInt((digits + nine)[:len(nine)], 10, 64)
}

// statReader reads what stat prints of names that are known beforehand: a name may hold
// anything, a newline and what looks like another record too.
type statReader struct {
	r     *bufio.Reader
	names []string // not yet seen, in order
	end   string   // how the line that ends the records begins
}

// next reads a record; io.EOF comes at the mark.
func (s *statReader) next() (found, error) {
	var e found
	if b, err := s.r.Peek(len(s.end) + 1); err != nil {
		return e, errBroken
	} else if string(b) == s.end+"\x00" {
		return e, io.EOF
	}
	var text [11]string
	for i := range text {
		b, err := s.r.ReadSlice('/')
		if err == bufio.ErrBufferFull || len(b) > 128 {
			return e, errMalformed
		}
		if err != nil {
			return e, errBroken
		}
		text[i] = string(b[:len(b)-1])
	}
	var n [9]uint64
	var times [2][2]int64
	for i := range n {
		var err error
		switch i {
		case 0:
			n[i], err = strconv.ParseUint(text[i], 16, 32)
		case 4, 5:
			if times[i-4][0], err = strconv.ParseInt(text[i], 10, 64); err == nil {
				times[i-4][1], err = clockFraction(text[i+5])
			}
		case 3:
			n[i], err = strconv.ParseUint(text[i], 10, 63)
		case 1, 2:
			n[i], err = strconv.ParseUint(text[i], 10, 32)
		default:
			n[i], err = strconv.ParseUint(text[i], 10, 64)
		}
		if err != nil {
			return e, fmt.Errorf("%w: %q", errMalformed, text[i])
		}
	}
	name, err := s.name()
	if err != nil {
		return e, err
	}
	e.Path, e.Type = relative(name), types[uint32(n[0])&unix.S_IFMT]
	if e.Type == 0 {
		return e, fmt.Errorf("%w: mode %s", errMalformed, text[0])
	}
	e.fill(n[0], n[1], n[2], n[3], inode{n[6], n[7]}, n[8], times)
	return e, nil
}

// clockFraction finds the nanoseconds in "2026-11-21 10:05:55.011842009 +0000", as far as
// stat prints them.
func clockFraction(s string) (int64, error) {
	_, rest, _ := strings.Cut(s, ".")
	digits, _, _ := strings.Cut(rest, " ")
	return nanoseconds(digits)
}

// near is how many names may have vanished in a row for the longest match to be looked
// for among them all.
const near = 64

// name reads the name that ends a record: the longest of the next ones that fits, for
// one may be the beginning of another. Those before it have vanished.
func (s *statReader) name() (string, error) {
	best := -1
	for i, name := range s.names {
		if i >= near && best >= 0 {
			break
		}
		if b, err := s.r.Peek(len(name) + 1); err == nil && string(b[:len(name)]) == name && b[len(name)] == '\n' &&
			(best < 0 || len(name) > len(s.names[best])) {
			best = i
		}
	}
	if best < 0 {
		return "", fmt.Errorf("%w: stat prints a name that it wasn't asked for", errMalformed)
	}
	name := s.names[best]
	s.names = s.names[best+1:]
	_, err := s.r.Discard(len(name) + 1)
	return name, err
}
