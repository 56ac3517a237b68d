package store

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// Manifest is the exact content of a tree, sorted by path bytes. It is what
// digests are taken of, never a disk: a store that can't hold an owner still has
// the manifest that names it.
type Manifest []snapshot.File

// manifestHeader names the format; its first word is the prefix of a digest.
const manifestHeader = "tree1"

// Digest is the identity of the tree: "tree1:sha256:" and the SHA-256 of the
// encoded manifest.
func (m Manifest) Digest() string {
	h := sha256.New()
	m.WriteTo(h) //nolint:errcheck // a hash takes everything
	return manifestHeader + ":sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Encode returns what WriteTo writes.
func (m Manifest) Encode() []byte {
	var b bytes.Buffer
	b.Grow(160 * len(m))
	m.WriteTo(&b) //nolint:errcheck // a buffer takes everything
	return b.Bytes()
}

// WriteTo writes the manifest in its one spelling: a header, then a line for each
// entry with type, mode, owner, group, for files and links the mtime, for files
// size and SHA-256, the path, and what else there is as KEY=VALUE. Bytes of a path
// that aren't printable ASCII are written as \xHH, and so is a space.
func (m Manifest) WriteTo(w io.Writer) (n int64, err error) {
	bw := bufio.NewWriterSize(w, 64<<10)
	k, err := bw.WriteString(manifestHeader + "\n")
	n = int64(k)
	for i := 0; i < len(m) && err == nil; i++ {
		k, err = bw.Write(appendEntry(bw.AvailableBuffer(), &m[i]))
		n += int64(k)
	}
	return n, errors.Join(err, bw.Flush())
}

func appendEntry(b []byte, f *snapshot.File) []byte {
	b = append(b, byte(f.Type), ' ', '0')
	b = strconv.AppendUint(b, uint64(f.Mode), 8)
	b = strconv.AppendUint(append(b, ' '), uint64(f.UID), 10)
	b = strconv.AppendUint(append(b, ' '), uint64(f.GID), 10)
	if f.Type == snapshot.Regular || f.Type == snapshot.Symlink {
		b = strconv.AppendInt(append(b, ' '), f.MTime, 10)
	}
	if f.Type == snapshot.Regular {
		b = strconv.AppendInt(append(b, ' '), f.Size, 10)
		b = append(append(b, ' '), f.Digest...)
	}
	b = appendQuoted(append(b, ' '), f.Path)
	if f.Type == snapshot.Symlink {
		b = appendQuoted(append(b, " target="...), f.Target)
	}
	if f.Link != "" {
		b = appendQuoted(append(b, " link="...), f.Link)
	}
	if f.User != "" {
		b = appendQuoted(append(b, " user="...), f.User)
	}
	if f.Group != "" {
		b = appendQuoted(append(b, " group="...), f.Group)
	}
	if len(f.Xattrs) > 0 {
		names := make([]string, 0, len(f.Xattrs))
		for k := range f.Xattrs {
			names = append(names, k)
		}
		slices.Sort(names)
		for _, k := range names {
			b = appendQuoted(append(b, " xattr:"...), k)
			b = hex.AppendEncode(append(b, '='), []byte(f.Xattrs[k]))
		}
	}
	return append(b, '\n')
}

func appendQuoted(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > ' ' && c < 0x7f && c != '\\' && c != '=' {
			b = append(b, c)
		} else {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		}
	}
	return b
}

func unquote(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i+4 > len(s) || s[i+1] != 'x' {
			return "", fmt.Errorf("bad escape in %q", s)
		}
		c, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
		if err != nil {
			return "", fmt.Errorf("bad escape in %q", s)
		}
		b = append(b, byte(c))
		i += 3
	}
	return string(b), nil
}

// ParseManifest reads what Encode wrote. Entries that are out of order, occur twice
// or have an impossible path are errors.
func ParseManifest(data []byte) (Manifest, error) {
	rest, ok := bytes.CutPrefix(data, []byte(manifestHeader+"\n"))
	if !ok {
		return nil, fmt.Errorf("reading manifest: it doesn't begin with %q", manifestHeader)
	}
	m := make(Manifest, 0, bytes.Count(rest, []byte{'\n'}))
	text := string(rest) // entries share its memory
	for n := 2; len(text) > 0; n++ {
		line, tail, ok := strings.Cut(text, "\n")
		if !ok {
			return nil, fmt.Errorf("reading manifest: line %d is cut off", n)
		}
		text = tail
		f, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("reading manifest: line %d: %w", n, err)
		}
		if len(m) > 0 && m[len(m)-1].Path >= f.Path {
			return nil, fmt.Errorf("reading manifest: line %d: %q is out of order", n, f.Path)
		}
		m = append(m, f)
	}
	return m, nil
}

func parseEntry(line string) (f snapshot.File, err error) {
	field := func() (s string) {
		s, line, _ = strings.Cut(line, " ")
		return s
	}
	number := func(base, bits int) (n uint64) {
		s := field()
		if err == nil {
			n, err = strconv.ParseUint(s, base, bits)
		}
		return n
	}
	t := field()
	if len(t) != 1 || !strings.Contains("fdlp", t) {
		return f, fmt.Errorf("unknown type %q", t)
	}
	f.Type = snapshot.Type(t[0])
	f.Mode = uint32(number(8, 12))
	f.UID, f.GID = uint32(number(10, 32)), uint32(number(10, 32))
	if f.Type == snapshot.Regular || f.Type == snapshot.Symlink {
		s := field()
		if err == nil {
			f.MTime, err = strconv.ParseInt(s, 10, 64)
		}
	}
	if f.Type == snapshot.Regular {
		f.Size = int64(number(10, 63))
		f.Digest = field()
		if len(f.Digest) != 2*sha256.Size {
			return f, fmt.Errorf("%q is no SHA-256", f.Digest)
		}
	}
	if err != nil {
		return f, err
	}
	if f.Path, err = unquote(field()); err != nil {
		return f, err
	}
	if !snapshot.ValidPath(f.Path) {
		return f, fmt.Errorf("bad path %q", f.Path)
	}
	for line != "" {
		if err = parseAttribute(&f, field()); err != nil {
			return f, err
		}
	}
	return f, nil
}

func parseAttribute(f *snapshot.File, word string) error {
	key, value, _ := strings.Cut(word, "=")
	var err error
	switch {
	case key == "target":
		f.Target, err = unquote(value)
	case key == "link":
		f.Link, err = unquote(value)
	case key == "user":
		f.User, err = unquote(value)
	case key == "group":
		f.Group, err = unquote(value)
	case strings.HasPrefix(key, "xattr:"):
		var name string
		var raw []byte
		if name, err = unquote(key[len("xattr:"):]); err != nil {
			return err
		}
		if raw, err = hex.DecodeString(value); err != nil {
			return err
		}
		if f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[name] = string(raw)
	default:
		return fmt.Errorf("unknown attribute %q", key)
	}
	return err
}

// Normalize sorts the entries and names every group of hard links by its first
// path, dropping groups with one member left. It changes m.
func (m Manifest) Normalize() {
	slices.SortFunc(m, func(a, b snapshot.File) int { return cmp.Compare(a.Path, b.Path) })
	first, count := map[string]string{}, map[string]int{}
	for i := range m {
		if g := m[i].Link; g != "" {
			if count[g]++; count[g] == 1 {
				first[g] = m[i].Path
			}
		}
	}
	for i := range m {
		if g := m[i].Link; g != "" {
			m[i].Link = first[g]
			if count[g] == 1 {
				m[i].Link = ""
			}
		}
	}
}

// Lookup finds the entry of a path.
func (m Manifest) Lookup(path string) (snapshot.File, bool) {
	i, ok := slices.BinarySearchFunc(m, path, func(f snapshot.File, p string) int { return cmp.Compare(f.Path, p) })
	if !ok {
		return snapshot.File{}, false
	}
	return m[i], true
}
