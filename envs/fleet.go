// Package envs holds fleets and projects: targets, releases and streams, and what
// is done with them: Snapshot, Pull, Fsck, tools, sessions and builds. It chains the
// packages below it, which don't know each other. How a host is reached and which
// engine runs a container is handed in.
package envs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Fleet is the folder that holds every target's locks.
type Fleet struct {
	dir    string
	config fleetConfig
}

// fleetConfig is fleet.toml.
type fleetConfig struct {
	Remote    string         `toml:"remote,omitempty"`    // where push puts what no archive has
	Archives  []FleetArchive `toml:"archive,omitempty"`   // more mirrors of known archives
	Snapshots []string       `toml:"snapshots,omitempty"` // archives that keep every old version
}

// FleetArchive names more mirrors of an archive that locks speak of.
type FleetArchive struct {
	URI     string   `toml:"uri"`     // as the locks have it
	Mirrors []string `toml:"mirrors"` // tried before it
}

// Release is one release of a target in a fleet: a file that never changes.
type Release struct {
	Target string
	Number int
	Path   string // of the lockfile
}

// String is the release as it is written on a command line: acme@3.
func (r Release) String() string { return r.Target + "@" + strconv.Itoa(r.Number) }

// maxLock bounds a lockfile, in bytes: 2,000 packages take about 1 MB.
const maxLock = 64 << 20

// Text reads the lockfile.
func (r Release) Text() ([]byte, error) { return readBounded(r.Path, maxLock) }

// UnknownError says that a name is not among those that exist.
type UnknownError struct {
	Kind  string // "target", "release", "stream"
	Name  string
	Of    string   // what was searched: "the fleet", "acme"
	Known []string // what exists there
	none  string   // what is said where nothing exists
	hint  string
}

func (e *UnknownError) Error() string {
	if e.none != "" && len(e.Known) == 0 {
		return fmt.Sprintf("unknown %s %q: %s", e.Kind, e.Name, e.none)
	}
	known := "nothing yet"
	if n := len(e.Known); n > 20 {
		known = strings.Join(e.Known[:20], ", ") + " and " + strconv.Itoa(n-20) + " more"
	} else if n > 0 {
		known = strings.Join(e.Known, ", ")
	}
	return fmt.Sprintf("unknown %s %q: %s has %s", e.Kind, e.Name, e.Of, known)
}

// Hint says how to go on.
func (e *UnknownError) Hint() string { return e.hint }

// NameError says that a name can't be one of a target or stream.
type NameError struct{ Kind, Name, Reason string }

func (e *NameError) Error() string {
	return fmt.Sprintf("bad %s name %q: %s", e.Kind, e.Name, e.Reason)
}

// CheckName reports whether name can be a target's: a folder of the fleet, of
// dist/ and of the store, and a host name. The error is a *NameError.
func CheckName(name string) error { return checkName("target", name) }

func checkName(kind, name string) error {
	bad := func(reason string) error { return &NameError{Kind: kind, Name: name, Reason: reason} }
	switch {
	case name == "":
		return bad("it is empty")
	case len(name) > 63:
		return bad("it is longer than 63 characters")
	case strings.ContainsRune("._-", rune(name[0])):
		return bad("it begins with " + name[:1])
	case strings.HasSuffix(name, "."):
		return bad("it ends with a dot")
	case kind == "target" && (name == "blobs" || name == "fleet.toml"):
		return bad("the fleet has a use of its own for it")
	case kind == "stream" && name[0] >= '0' && name[0] <= '9':
		return bad("it begins with a digit, as a release does")
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0) {
			return bad("only letters, digits, '.', '_' and '-' may be in it")
		}
	}
	return nil
}

// OpenFleet opens the fleet at dir. A folder that isn't there is an empty fleet;
// the first release makes it.
func OpenFleet(dir string) (*Fleet, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening fleet: %w", err)
	}
	f := &Fleet{dir: dir}
	if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
		return nil, fmt.Errorf("opening fleet %s: it is not a folder", dir)
	}
	err = decodeFile(filepath.Join(dir, "fleet.toml"), &f.config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f, nil
}

// Dir is the folder of the fleet.
func (f *Fleet) Dir() string { return f.dir }

// Blobs is the folder for what no archive has.
func (f *Fleet) Blobs() string { return filepath.Join(f.dir, "blobs") }

// Remote is where push puts what no archive has; "" means Blobs.
func (f *Fleet) Remote() string { return f.config.Remote }

// Mirrors are addresses to try before the archive's own.
func (f *Fleet) Mirrors(uri string) []string {
	for _, a := range f.config.Archives {
		if strings.TrimRight(a.URI, "/") == strings.TrimRight(uri, "/") {
			return slices.Clone(a.Mirrors)
		}
	}
	return nil
}

// Targets lists the targets by name.
func (f *Fleet) Targets() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing fleet %s: %w", f.dir, err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		inside, err := os.ReadDir(filepath.Join(f.dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("listing target %s: %w", e.Name(), err)
		}
		// Other folders may lie in the repository: documentation, CI.
		if slices.ContainsFunc(inside, func(e fs.DirEntry) bool {
			return e.Name() == "target.toml" || lockNumber(e.Name()) > 0
		}) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Releases lists the releases of a target, oldest first; there are none for a
// target that doesn't exist.
func (f *Fleet) Releases(target string) ([]Release, error) {
	if err := CheckName(target); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(f.dir, target))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing target %s: %w", target, err)
	}
	var releases []Release
	for _, e := range entries {
		if n := lockNumber(e.Name()); n > 0 {
			releases = append(releases, Release{Target: target, Number: n, Path: filepath.Join(f.dir, target, e.Name())})
		}
	}
	slices.SortFunc(releases, func(a, b Release) int { return a.Number - b.Number })
	return releases, nil
}

// lockNumber is the number in a name such as 3.lock, 0 for any other name.
func lockNumber(name string) int {
	s, ok := strings.CutSuffix(name, ".lock")
	n, err := strconv.Atoi(s)
	if !ok || err != nil || n < 1 || strconv.Itoa(n) != s {
		return 0
	}
	return n
}

// Ref is how a person names a release: acme, acme@3 or acme:live.
type Ref struct {
	Target string
	Number int    // 0: not given
	Stream string // "": not given
}

func (r Ref) String() string {
	switch {
	case r.Number > 0:
		return r.Target + "@" + strconv.Itoa(r.Number)
	case r.Stream != "":
		return r.Target + ":" + r.Stream
	default:
		return r.Target
	}
}

// ParseRef reads acme, acme@3 or acme:live. The error is a *NameError.
func ParseRef(s string) (Ref, error) {
	i := strings.IndexAny(s, "@:")
	if i < 0 {
		return Ref{Target: s}, CheckName(s)
	}
	r := Ref{Target: s[:i]}
	if err := CheckName(r.Target); err != nil {
		return r, err
	}
	if s[i] == ':' {
		r.Stream = s[i+1:]
		return r, checkName("stream", r.Stream)
	}
	r.Number = lockNumber(s[i+1:] + ".lock")
	if r.Number == 0 {
		return r, &NameError{Kind: "release", Name: s, Reason: "after @ comes the number of a release"}
	}
	return r, nil
}

// Resolve finds the release that ref names. A target alone is its stream live, or
// its newest release where that isn't set. The error for a name that isn't there
// is an *UnknownError.
func (f *Fleet) Resolve(ref Ref) (Release, error) {
	releases, err := f.Releases(ref.Target)
	if err != nil {
		return Release{}, err
	}
	if len(releases) == 0 {
		return Release{}, f.unknownTarget(ref.Target)
	}
	number := ref.Number
	if number == 0 {
		t, err := f.Target(ref.Target)
		if err != nil {
			return Release{}, err
		}
		stream := ref.Stream
		if stream == "" {
			stream = "live"
		}
		var ok bool
		if number, ok = t.Streams[stream]; !ok {
			if ref.Stream != "" && ref.Stream != "live" {
				return Release{}, &UnknownError{Kind: "stream", Name: ref.Stream, Of: ref.Target, Known: t.streamNames()}
			}
			return releases[len(releases)-1], nil
		}
	}
	known := make([]string, 0, len(releases))
	for _, r := range releases {
		if r.Number == number {
			return r, nil
		}
		known = append(known, r.String())
	}
	return Release{}, &UnknownError{Kind: "release", Name: ref.Target + "@" + strconv.Itoa(number), Of: ref.Target, Known: known}
}

func (f *Fleet) unknownTarget(name string) error {
	known, err := f.Targets()
	if err != nil {
		return err
	}
	e := &UnknownError{Kind: "target", Name: name, Of: "the fleet", Known: known}
	switch {
	case slices.Contains(known, name):
		return &UnknownError{Kind: "release", Name: name, Of: name, hint: "take a snapshot first: stead snapshot HOST " + name}
	case len(known) == 0:
		e.hint = "the fleet is " + f.dir + ": set fleet in stead.toml or $STEAD_FLEET, or take a snapshot first"
	}
	return e
}

// FleetDir is where the fleet lies when a project doesn't say: $STEAD_FLEET, else
// the user's data folder.
func FleetDir() (string, error) {
	if dir := os.Getenv("STEAD_FLEET"); dir != "" {
		return dir, nil
	}
	return dataDir("fleet")
}

// StoreDir is where this machine's store lies: $STEAD_STORE, else /var/lib/stead
// for root and the user's data folder for anybody else.
func StoreDir() (string, error) {
	if dir := os.Getenv("STEAD_STORE"); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/stead", nil
	}
	return dataDir("store")
}

// dataDir is stead's folder of that name in the user's data folder, as the XDG
// base directory specification has it.
func dataDir(name string) (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "stead", name), nil
	}
	home, err := homeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "stead", name), nil
}

// allMirrors are the further addresses of every archive, by its URI.
func (f *Fleet) allMirrors() map[string][]string {
	all := map[string][]string{}
	for _, a := range f.config.Archives {
		all[strings.TrimRight(a.URI, "/")] = a.Mirrors
	}
	return all
}
