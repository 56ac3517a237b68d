package lock

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/opencontainers/go-digest"
)

// VersionError says that a lock was written by a newer program.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the lock has version %d, and this program reads up to %d", e.Version, Version)
}

// Hint says how to go on.
func (e *VersionError) Hint() string { return "use a newer stead" }

// EditedError says that a lock isn't spelled as it was written: it was edited, or
// a merge left something in it.
type EditedError struct{ Line int }

func (e *EditedError) Error() string {
	return fmt.Sprintf("line %d isn't as it was written; a lock is never edited", e.Line)
}

// Hint says how to go on.
func (e *EditedError) Hint() string { return "restore the file from the fleet's history" }

// DamagedError says that a file is no lock: a merge left something in it, or a part
// is missing.
type DamagedError struct{ Err error }

func (e *DamagedError) Error() string { return e.Err.Error() }
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says how to go on.
func (e *DamagedError) Hint() string { return "restore the file from the fleet's history" }

// Read parses a lock and checks that every field is one that Write could have
// written.
func Read(data []byte) (*Lock, error) {
	var l Lock
	if err := decode(data, &l); err != nil {
		return nil, fmt.Errorf("reading lock: %w", err)
	}
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("reading lock: %w", &DamagedError{err})
	}
	if canonical := l.Write(); !bytes.Equal(canonical, data) {
		return nil, fmt.Errorf("reading lock: %w", &EditedError{Line: firstDifference(canonical, data)})
	}
	return &l, nil
}

// Header is what a lock says before its packages, and which index it has.
type Header struct {
	Version int         `toml:"version"`
	Take    string      `toml:"take"`
	Release Release     `toml:"release"`
	Host    Host        `toml:"host"`
	Index   *Attachment `toml:"index"`

	kernel []byte // its table: hundreds of names that most readers don't need
}

// ReadHeader parses a lock up to its first archive or package, and its index, without
// looking at the rest.
func ReadHeader(data []byte) (Header, error) {
	var h Header
	head := data
	for _, next := range []string{"\n[[", "\n[delta]", "\n[index]", "\n[review]"} {
		if i := bytes.Index(head, []byte(next)); i >= 0 {
			head = head[:i+1]
		}
	}
	if i := bytes.Index(head, []byte("\n[kernel]\n")); i >= 0 {
		head, h.kernel = head[:i+1], bytes.Clone(head[i+1:])
	}
	if err := decode(slices.Concat(head, indexTable(data)), &h); err != nil {
		return h, fmt.Errorf("reading lock: %w", err)
	}
	if err := h.Index.validate(h.Version); err != nil {
		return h, fmt.Errorf("reading lock: %w", &DamagedError{err})
	}
	return h, nil
}

// indexTable is the [index] of a lock, which stands near its end; nil where it has none.
func indexTable(data []byte) []byte {
	i := bytes.LastIndex(data, []byte("\n[index]\n"))
	if i < 0 {
		return nil
	}
	table := data[i:]
	if end := bytes.Index(table[1:], []byte("\n[")); end >= 0 {
		table = table[:end+2]
	}
	return table
}

// Kernel parses what the lock says of the host's kernel; nil where it says nothing.
func (h Header) Kernel() (*Kernel, error) {
	var part struct {
		Kernel *Kernel `toml:"kernel"`
	}
	err := decode(h.kernel, &part)
	if err == nil {
		err = part.Kernel.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("reading lock: kernel: %w", err)
	}
	return part.Kernel, nil
}

func decode(data []byte, into any) error {
	var v struct {
		Version int `toml:"version"`
	}
	if head, _, ok := bytes.Cut(data, []byte("\n[")); ok {
		if _, err := toml.Decode(string(head), &v); err == nil && v.Version > Version {
			return &VersionError{Version: v.Version}
		}
	}
	meta, err := toml.Decode(string(data), into)
	if err != nil {
		var p toml.ParseError
		if errors.As(err, &p) {
			err = fmt.Errorf("line %d: %s", p.Position.Line, p.Message)
		}
		return &DamagedError{err}
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return &DamagedError{fmt.Errorf("unknown key %q", unknown[0])}
	}
	return nil
}

// Identity is the digest of everything that a lock reproduces: its bytes without
// [release] (a renumbered release is the same one), [review] (a host whose log files
// moved is the same one) and [index] (which follows from the root, and is spelled anew
// by a newer program), under version 1, which they would all have been without an index.
// Where no file left the host the index is all that tells of its files, and counts.
func Identity(data []byte) digest.Digest {
	h := sha256.New()
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	if ok && string(line) == "version = 2" {
		h.Write([]byte("version = 1\n"))
		data = rest
	}
	tables := []string{"\n[release]\n", "\n[index]\n", "\n[review]\n"}
	if bytes.HasPrefix(rest, []byte(`take = "`+TakeIndex+"\"\n")) {
		tables = slices.Delete(tables, 1, 2)
	}
	for _, table := range tables {
		before, rest, ok := bytes.Cut(data, []byte(table))
		if !ok {
			continue
		}
		h.Write(before)
		data = nil
		if i := bytes.Index(rest, []byte("\n[")); i >= 0 {
			data = rest[i:]
		}
	}
	h.Write(data)
	return digest.NewDigest(digest.SHA256, h)
}

func (l *Lock) validate() error {
	if l.Version < 1 {
		return errors.New("it has no version")
	}
	if l.Release.Number < 1 || l.Release.Target == "" {
		return errors.New("[release] lacks target or number")
	}
	if err := l.Kernel.validate(); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := l.Index.validate(l.Version); err != nil {
		return err
	}
	if err := CheckPackages(l.Archives, l.Packages); err != nil {
		return err
	}
	switch l.Take {
	case TakeIndex:
		return nil
	case "", TakeMinimal:
	default:
		return fmt.Errorf("unknown level %q", l.Take)
	}
	if err := l.Delta.Digest().Validate(); err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	root, ok := strings.CutPrefix(l.Rootfs.Digest, "tree1:")
	if !ok || digest.Digest(root).Validate() != nil {
		return fmt.Errorf("rootfs: %q is no digest", l.Rootfs.Digest)
	}
	return nil
}

// CheckPackages reports whether packages are pinned as a lock has to have them, with
// the archives that they name.
func CheckPackages(archives []Archive, packages []Package) error {
	names := map[string]bool{}
	for _, a := range archives {
		if names[a.Name] || a.Name == "" {
			return fmt.Errorf("archive %q occurs twice or has no name", a.Name)
		}
		names[a.Name] = true
		if err := a.InRelease.Validate(); err != nil {
			return fmt.Errorf("archive %q: inrelease: %w", a.Name, err)
		}
	}
	for _, p := range packages {
		if err := p.validate(names); err != nil {
			return fmt.Errorf("package %q: %w", p.Name, err)
		}
	}
	return nil
}

// validate holds the index of a lock of some version.
func (a *Attachment) validate(version int) error {
	switch {
	case a == nil:
		return nil
	case version < 2:
		return fmt.Errorf("version %d has no [index]", version)
	}
	if err := a.Digest().Validate(); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

func (k *Kernel) validate() error {
	if k == nil {
		return nil
	}
	for _, name := range k.SystemCalls {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("%q is no system call", name)
		}
	}
	return nil
}

func (p Package) validate(archives map[string]bool) error {
	switch {
	case p.Name == "" || p.Version == "":
		return errors.New("name or version is missing")
	case p.Proof == Listed && p.SHA256 == "" && p.Archive == "":
		return nil
	case p.Digest().Validate() != nil:
		return fmt.Errorf("%q is no SHA-256", p.SHA256)
	case p.Size <= 0:
		return errors.New("its size is missing")
	case p.Archive != "" && !archives[p.Archive]:
		return fmt.Errorf("unknown archive %q", p.Archive)
	case p.Archive != "" && (p.Path == "" || path.Clean("/"+p.Path) != "/"+strings.TrimPrefix(p.Path, "./")):
		return fmt.Errorf("impossible path %q", p.Path)
	}
	return nil
}

func firstDifference(a, b []byte) int {
	line := 1
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '\n' {
			line++
		}
	}
	return line
}
