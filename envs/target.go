package envs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/lock"
)

// Target is target.toml: what people decided about a target.
type Target struct {
	Title   string            `toml:"title,omitempty"`
	Host    string            `toml:"host,omitempty"`    // how to reach it, as snapshot takes it
	Keep    []string          `toml:"keep,omitempty"`    // patterns of paths that come along
	Drop    []string          `toml:"drop,omitempty"`    // patterns of paths that stay behind
	Take    string            `toml:"take,omitempty"`    // how much may leave the host; "" for standard
	Streams map[string]int    `toml:"streams,omitempty"` // names of releases, by number
	Notes   map[string]string `toml:"notes,omitempty"`   // by release number, in decimal
}

func (t Target) streamNames() []string { return slices.Sorted(maps.Keys(t.Streams)) }

// Target reads target.toml of a target; it is zero where there is none.
func (f *Fleet) Target(name string) (Target, error) {
	var t Target
	if err := CheckName(name); err != nil {
		return t, err
	}
	path := filepath.Join(f.dir, name, "target.toml")
	if err := decodeFile(path, &t); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Target{}, nil
		}
		return t, err
	}
	for _, stream := range t.streamNames() {
		if err := checkName("stream", stream); err != nil {
			return t, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return t, nil
}

// ChangeTarget changes target.toml of a target while no other process does. A
// file that says the same afterwards isn't written; comments don't survive a
// change.
func (f *Fleet) ChangeTarget(name string, change func(*Target)) error {
	return f.exclusive(name, func(dir string) error {
		t, err := f.Target(name)
		if err != nil {
			return err
		}
		before, err := encode(t)
		if err != nil {
			return err
		}
		change(&t)
		after, err := encode(t)
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		return writeFile(filepath.Join(dir, "target.toml"), after, 0o644)
	})
}

// exclusive runs fn with the folder of a target, made where needed, while no
// other process does. The lock is on the folder itself: git sees no file of it.
func (f *Fleet) exclusive(target string, fn func(dir string) error) error {
	if err := CheckName(target); err != nil {
		return err
	}
	dir := filepath.Join(f.dir, target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making target %s: %w", target, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening target %s: %w", target, err)
	}
	defer d.Close()
	// Some network file systems lock no folder; the rename without replacement
	// below keeps releases whole there too.
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		err = clearUnfinished(dir)
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOLCK) {
		return fmt.Errorf("opening target %s: %w", target, err)
	}
	return fn(dir)
}

// clearUnfinished removes what processes that were killed began to write: git would
// take it along.
func clearUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// AddRelease adds a release to a target. write makes the text of the lock from
// the number it will have and the release before it, which is zero for the first.
// Where the text has the identity of the release before, nothing is written and
// that one is returned: an unchanged host makes no release. It is called again
// with another number if another process was faster.
func (f *Fleet) AddRelease(target string, write func(number int, parent Release) ([]byte, error)) (r Release, added bool, err error) {
	err = f.exclusive(target, func(dir string) error {
		for {
			r, added, err = f.tryAdd(dir, target, write)
			if !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	})
	return r, added, err
}

func (f *Fleet) tryAdd(dir, target string, write func(int, Release) ([]byte, error)) (Release, bool, error) {
	releases, err := f.Releases(target)
	if err != nil {
		return Release{}, false, err
	}
	var parent Release
	var before []byte
	if len(releases) > 0 {
		parent = releases[len(releases)-1]
		if before, err = parent.Text(); err != nil {
			return Release{}, false, err
		}
	}
	next := Release{Target: target, Number: parent.Number + 1}
	next.Path = filepath.Join(dir, strconv.Itoa(next.Number)+".lock")
	text, err := write(next.Number, parent)
	if err != nil {
		return Release{}, false, err
	}
	if parent.Number > 0 && lock.Identity(text) == lock.Identity(before) {
		return parent, false, nil
	}
	if parent.Number > 0 {
		// The release comes last: once it is there, nobody writes what belongs to it.
		changes, err := changesText(parent, text)
		if err == nil {
			err = writeFile(filepath.Join(dir, strconv.Itoa(next.Number)+".changes"), changes, 0o644)
		}
		if err != nil {
			return Release{}, false, err
		}
	}
	return next, true, writeNew(next.Path, text, 0o644)
}

func changesText(before Release, after []byte) ([]byte, error) {
	a, err := before.Lock()
	if err != nil {
		return nil, err
	}
	b, err := lock.Read(after)
	if err != nil {
		return nil, err
	}
	return []byte(Changes(a, b)), nil
}

// Lock reads the release whole.
func (r Release) Lock() (*lock.Lock, error) {
	text, err := r.Text()
	if err != nil {
		return nil, err
	}
	l, err := lock.Read(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", r.Path, err)
	}
	return l, nil
}

// Identity is the identity of the release's lock.
func (r Release) Identity() (digest.Digest, error) {
	text, err := r.Text()
	if err != nil {
		return "", err
	}
	return lock.Identity(text), nil
}

// FindIdentity finds the newest release of a target with that identity, under
// whatever number.
func (f *Fleet) FindIdentity(target string, id digest.Digest) (Release, bool, error) {
	releases, err := f.Releases(target)
	if err != nil {
		return Release{}, false, err
	}
	for _, r := range slices.Backward(releases) {
		got, err := r.Identity()
		if err != nil {
			return Release{}, false, err
		}
		if got == id {
			return r, true, nil
		}
	}
	return Release{}, false, nil
}

// encode writes v as TOML without indentation.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	err := enc.Encode(v)
	return b.Bytes(), err
}
