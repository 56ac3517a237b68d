package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Bounds of what is read of a database. The largest one seen, of a workstation
// with 4,000 packages, takes 120 MB.
const (
	maxDatabaseFile = 64 << 20
	maxDatabase     = 384 << 20
	maxRecords      = 1_000_000 // files
)

// NoDatabaseError says that a host has no package database that can be read.
type NoDatabaseError struct{ Systems []string }

func (e *NoDatabaseError) Error() string {
	return "reading the package database: none of " + strings.Join(e.Systems, ", ") + " is there"
}

// Hint says what to look at.
func (e *NoDatabaseError) Hint() string {
	return "is this the root of a system? it should hold var/lib and etc"
}

// AccessError says that a part of the package database can't be read.
type AccessError struct {
	System string
	Err    error
}

func (e *AccessError) Error() string {
	return "reading the database of " + e.System + ": " + e.Err.Error()
}

// Unwrap gives the reason.
func (e *AccessError) Unwrap() error { return e.Err }

// Hint says what helps.
func (e *AccessError) Hint() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return "read this host as root"
	}
	return "check the disk of this host"
}

// ReadDatabase reads the package database of a host, and nothing else of it. The error
// is a *NoDatabaseError where none of the readers knows what is there.
func ReadDatabase(ctx context.Context, host Host, readers []Reader) (*Database, error) {
	return readDatabase(ctx, host, readers, nil)
}

// readDatabase asks each reader which files it needs, reads them all at once and
// takes the first database that has packages.
func readDatabase(ctx context.Context, host Host, readers []Reader, progress Progress) (*Database, error) {
	files := map[string]string{} // where a file really is, by the name that readers know
	byReader := make([][]string, len(readers))
	var systems []string
	for i, r := range readers {
		systems = append(systems, r.System())
		for _, root := range r.Roots() {
			found, err := wanted(ctx, host, r, root)
			if err != nil {
				return nil, err
			}
			maps.Copy(files, found)
			byReader[i] = slices.AppendSeq(byReader[i], maps.Keys(found))
		}
	}
	content, err := readAll(ctx, host, files, progress)
	if err != nil {
		return nil, err
	}
	for i, r := range readers {
		mine := map[string][]byte{}
		for _, name := range byReader[i] {
			if b, ok := content[name]; ok {
				mine[name] = b
			}
		}
		db, err := r.Read(mine)
		if err != nil {
			return nil, err
		}
		if db != nil && len(db.Packages) > 0 {
			return db, nil
		}
	}
	return nil, &NoDatabaseError{systems}
}

// wanted lists the files below one root of a database, which an administrator may
// have moved elsewhere and linked, by the path that the reader knows.
func wanted(ctx context.Context, host Host, r Reader, root string) (map[string]string, error) {
	links := map[string]string{}
	for range maxHops {
		real := NewLinks(links).follow(root)
		found, there := map[string]string{}, false
		err := host.Files(ctx, real, func(f File, err error) error {
			if f.Path == real && f.Type == Symlink {
				links[real] = f.Target
				return nil
			}
			there = true
			name := root + strings.TrimPrefix(f.Path, real)
			switch {
			case err != nil && (name == root || r.Wants(name) || f.Type == Dir && r.Wants(name+"/0")):
				return &AccessError{r.System(), err} // a folder of downloads may be shut to others
			case f.Type != Regular || !r.Wants(name):
				return nil
			case f.Size > maxDatabaseFile:
				return fmt.Errorf("reading /%s: more than %d bytes", f.Path, maxDatabaseFile)
			case len(found) >= maxRecords:
				return fmt.Errorf("reading /%s: more than %d files", root, maxRecords)
			}
			found[name] = f.Path
			return nil
		})
		if err != nil || there {
			return found, err
		}
		if _, ok := links[real]; ok {
			continue
		}
		if more, err := linkAbove(ctx, host, real, links); err != nil || !more {
			return nil, err
		}
	}
	return nil, fmt.Errorf("reading the database of %s: too many links at /%s", r.System(), root)
}

// linkAbove looks for the first link among the folders above a path.
func linkAbove(ctx context.Context, host Host, p string, links map[string]string) (bool, error) {
	for i, c := range p {
		if c != '/' {
			continue
		}
		found := false
		err := host.Files(ctx, p[:i], func(f File, _ error) error {
			if f.Path == p[:i] && f.Type == Symlink {
				links[f.Path], found = f.Target, true
			}
			return fs.SkipDir
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// readAll reads files into memory, by the names that readers know. One that
// vanished since it was listed is left out, as if it had never been there.
func readAll(ctx context.Context, host Host, files map[string]string, progress Progress) (map[string][]byte, error) {
	content := make(map[string][]byte, len(files))
	names := make(map[string]string, len(files))
	for name, real := range files {
		names[real] = name
	}
	total := int64(0)
	err := host.Read(ctx, slices.Sorted(maps.Keys(names)), func(real string, r io.Reader, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if errors.As(err, new(*WithheldError)) { // a script, of which the name is needed
			content[names[real]] = []byte{}
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", real, err)
		}
		b, err := io.ReadAll(io.LimitReader(r, maxDatabaseFile+1))
		if err != nil {
			return fmt.Errorf("reading /%s: %w", real, err)
		}
		if total += int64(len(b)); len(b) > maxDatabaseFile || total > maxDatabase {
			return fmt.Errorf("reading /%s: the database is larger than %d bytes", real, maxDatabase)
		}
		content[names[real]] = b
		if len(content)%256 == 0 {
			progress.Report(Event{Stage: "reading", Item: names[real], Done: int64(len(content)), Total: int64(len(files)), Unit: "files"})
		}
		return nil
	})
	return content, err
}
