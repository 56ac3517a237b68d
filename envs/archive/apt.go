package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

// The bounds of apt's configuration on a host.
const (
	maxSourcesFile = 1 << 20 // bytes
	maxConfigFiles = 500     // of a kind
)

// stage is what the notes of this package belong to.
const stage = "locating"

// apt is what a host's own package manager knows of archives. It is read when a
// locator first needs it: a host that didn't change needs none of it.
type apt struct {
	Debian
	files    *hostFiles
	loaded   bool
	sources  []source
	unsigned []source                      // those that the host trusts without a signature
	trusted  openpgp.EntityList            // what applies where no Signed-By does
	keyring  map[string]openpgp.EntityList // by the files that sources name
	unread   map[string]error              // keyrings that could not be read
	// searched are the indexes that were read to their end, by their Release and path:
	// what isn't in one then isn't in it later.
	searched map[string]bool
	listed   map[string]bool // sources, by address and suite, with an index on the host
	hosts    health          // which servers don't answer
	// standIn are keys for a source whose own didn't do; nil for none.
	standIn   func(source) openpgp.EntityList
	machine   openpgp.EntityList // this machine's keys, once they are read
	verifying sync.Mutex
}

func newApt(d Debian) *apt {
	a := &apt{Debian: d, searched: make(map[string]bool), listed: make(map[string]bool),
		keyring: make(map[string]openpgp.EntityList), unread: make(map[string]error)}
	a.files = newHostFiles(d.Host, a.note)
	if a.Fetch.Pacer == nil {
		a.Fetch.Pacer = NewPacer(d.Snapshots)
	}
	return a
}

func (a *apt) note(format string, args ...any) {
	a.Fetch.Progress.Note(stage, fmt.Sprintf(format, args...))
}

// problem notes why a source could not be searched.
func (a *apt) problem(place string, s source, err error) *Problem {
	p := &Problem{Place: place, URI: s.uri, Suite: s.suite, Err: err}
	a.note("%v", p)
	return p
}

// load reads the sources and the keyrings of the host.
func (a *apt) load(ctx context.Context) error {
	if a.loaded {
		return nil
	}
	files := make(map[string]snapshot.File)
	for _, dir := range []string{"etc/apt", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d"} {
		some, err := a.files.list(ctx, dir)
		if err != nil {
			return err
		}
		maps.Copy(files, some)
	}
	var lists, keys []string
	for name := range files {
		switch dir, base := path.Split(name); {
		case name == "etc/apt/sources.list",
			dir == "etc/apt/sources.list.d/" && (isConfigName(base, ".list") || isConfigName(base, ".sources")):
			lists = append(lists, name)
		case name == "etc/apt/trusted.gpg",
			dir == "etc/apt/trusted.gpg.d/" && (strings.HasSuffix(base, ".gpg") || strings.HasSuffix(base, ".asc")):
			keys = append(keys, name)
		}
	}
	if err := a.loadSources(ctx, lists); err != nil {
		return err
	}
	if err := a.loadKeyrings(ctx, keys); err != nil {
		return err
	}
	a.loaded = true
	return nil
}

// isConfigName says whether apt would read a file of this name: other characters
// than these make it skip one (apt.conf(5), on file names).
func isConfigName(base, ending string) bool {
	return strings.HasSuffix(base, ending) && !strings.ContainsFunc(base, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
	})
}

// loadSources parses the lists in apt's order: sources.list, then the others by
// name.
func (a *apt) loadSources(ctx context.Context, names []string) error {
	slices.SortFunc(names, func(x, y string) int { // sources.list itself is first: it has no slash behind it
		return strings.Compare(strings.TrimSuffix(x, "sources.list"), strings.TrimSuffix(y, "sources.list"))
	})
	names = atMost(names, maxConfigFiles)
	content, failed, err := a.files.slurp(ctx, names, maxSourcesFile)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := failed[name]; err != nil {
			a.note("%v", err)
			continue
		}
		found, skip := parseSources("/"+name, content[name], a.Architecture)
		for _, s := range skip {
			a.note("%s", s)
		}
		for _, s := range found {
			if s.trusted {
				a.note("%s %s is trusted without a signature there: it proves nothing", s.uri, s.suite)
				a.unsigned = atMost(append(a.unsigned, s), maxConfigFiles)
				continue
			}
			a.sources = append(a.sources, s)
		}
	}
	a.sources = atMost(mergeSources(a.sources), maxSources)
	return nil
}

// atMost is the beginning of a list that is too long.
func atMost[T any](list []T, n int) []T {
	if len(list) > n {
		return list[:n]
	}
	return list
}

// mergeSources makes one source of those that share their Release.
func mergeSources(in []source) (out []source) {
	for _, s := range in {
		i := slices.IndexFunc(out, func(o source) bool {
			return o.uri == s.uri && o.suite == s.suite && slices.Equal(o.signedBy, s.signedBy) && slices.Equal(o.archs, s.archs)
		})
		if i < 0 {
			out = append(out, s)
			continue
		}
		out[i].components = union(out[i].components, s.components)
		out[i].siblings = union(out[i].siblings, s.siblings)
	}
	return out
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// loadKeyrings reads apt's own keyrings and those that sources name.
func (a *apt) loadKeyrings(ctx context.Context, trusted []string) error {
	slices.Sort(trusted)
	trusted = atMost(trusted, maxConfigFiles)
	names := slices.Clone(trusted)
	for _, s := range a.sources {
		for _, k := range s.signedBy {
			if strings.HasPrefix(k, "/") {
				names = append(names, strings.TrimPrefix(path.Clean(k), "/"))
			}
		}
	}
	slices.Sort(names)
	for batch := range slices.Chunk(atMost(slices.Compact(names), maxConfigFiles), 16) {
		content, failed, err := a.files.slurp(ctx, batch, maxKeyring)
		if err != nil {
			return err
		}
		for name, err := range failed {
			a.unread[name] = err
		}
		for name, data := range content {
			keys, err := readKeyring(data)
			if err != nil {
				a.unread[name] = fmt.Errorf("reading /%s: %w", name, err)
			}
			a.keyring[name] = keys
		}
	}
	for _, name := range trusted {
		if err := a.unread[name]; err != nil {
			a.note("%v", err)
		}
		a.trusted = append(a.trusted, a.keyring[name]...)
	}
	return nil
}

// keys are the keys that may sign for a source.
func (a *apt) keys(s source) (openpgp.EntityList, error) {
	if len(s.signedBy) == 0 {
		return a.trusted, nil
	}
	var keys openpgp.EntityList
	var prints []string
	var errs []error
	for _, k := range s.signedBy {
		switch name := strings.TrimPrefix(path.Clean(k), "/"); {
		case strings.HasPrefix(k, "-----BEGIN"):
			own, err := readKeyring([]byte(k))
			keys, errs = append(keys, own...), append(errs, err)
		case strings.HasPrefix(k, "/"):
			keys, errs = append(keys, a.keyring[name]...), append(errs, a.unread[name])
		default:
			prints = append(prints, k)
		}
	}
	if len(prints) > 0 {
		keys = append(keys, restrict(a.trusted, prints)...)
	}
	if len(keys) == 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

// verify checks a signed file of a source, and says what apt would complain about.
func (a *apt) verify(s source, blob []byte) (*release, error) {
	a.verifying.Lock() // keys remember what was found about them
	defer a.verifying.Unlock()
	keys, err := a.keys(s)
	var rel *release
	if err == nil {
		if rel, err = verify(blob, keys); err != nil {
			err = fmt.Errorf("checking its InRelease: %w", err)
		}
	}
	if err != nil && a.standIn != nil {
		if r, e := verify(blob, a.standIn(s)); e == nil {
			rel, err = r, nil
		}
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if !rel.validUntil.IsZero() && now.After(rel.validUntil) {
		a.note("%s %s was valid until %s: it proves what it lists, and may lack what is newer",
			s.uri, s.suite, rel.validUntil.Format(time.DateOnly))
	}
	if rel.date.After(now.Add(24 * time.Hour)) {
		a.note("%s %s is dated %s, in the future", s.uri, s.suite, rel.date.Format(time.DateOnly))
	}
	return rel, nil
}

// stems are the indexes of a source that its Release lists, without the ending of
// a compression.
func (a *apt) stems(s source, rel *release, want []Want) (stems []string) {
	all := []string{"Packages"}
	if !s.flat() {
		all = nil
		for _, c := range s.components {
			for _, arch := range a.archs(s, rel, want) {
				all = append(all, c+"/binary-"+arch+"/Packages")
			}
		}
	}
	for _, stem := range all {
		if slices.ContainsFunc(endings, func(e string) bool { _, ok := rel.files[stem+e]; return ok }) {
			stems = append(stems, stem)
		}
	}
	return stems
}

// archs are the architectures that a source is searched for.
func (a *apt) archs(s source, rel *release, want []Want) (archs []string) {
	archs = append(archs, a.Architecture)
	for _, w := range want {
		if w.Architecture != "all" && !slices.Contains(archs, w.Architecture) {
			archs = append(archs, w.Architecture)
		}
	}
	if len(s.archs) > 0 {
		archs = slices.DeleteFunc(archs, func(arch string) bool { return !slices.Contains(s.archs, arch) })
	}
	if !rel.noAll {
		archs = append(archs, "all")
	}
	return archs
}

// candidates makes them of the hits in an index of a source, and keeps the signed
// file that proves them.
func (a *apt) candidates(ctx context.Context, s source, rel *release, hits []hit) ([]Candidate, error) {
	if len(hits) == 0 {
		return nil, nil
	}
	from, err := a.evidence(ctx, s, rel)
	if err != nil {
		return nil, err
	}
	var out []Candidate
	for _, h := range hits {
		c := Candidate{Want: h.Want, Archive: from, Path: h.path, Size: h.size, SHA256: h.sha256,
			URLs: URLs(from, h.path, append(a.mirrors(s), SnapshotTrees(from, a.Snapshots)...))}
		if dir, ok := s.local(); ok {
			file, err := a.files.resolve(ctx, dir+"/"+h.path)
			if err != nil {
				return nil, err
			}
			c.HostPath = file
		}
		out = append(out, c)
	}
	return out, nil
}

// evidence keeps the signed file of a source, and is what a lock says of it.
func (a *apt) evidence(ctx context.Context, s source, rel *release) (lock.Archive, error) {
	d := digest.FromBytes(rel.blob)
	if err := a.Store.PutBlob(ctx, d, int64(len(rel.blob)), bytes.NewReader(rel.blob)); err != nil {
		return lock.Archive{}, fmt.Errorf("storing the InRelease of %s %s: %w", s.uri, s.suite, err)
	}
	return lock.Archive{Name: rel.name(s), URI: s.uri, Suite: s.suite, InRelease: d,
		SignedBy: rel.signedBy, Dated: rel.date}, nil
}

// mirrors are the other addresses of a source's archive: those that the host names
// beside it, where others can reach them, and the caller's.
func (a *apt) mirrors(s source) (out []string) {
	for _, u := range s.siblings {
		if strings.HasPrefix(u, "http") {
			out = append(out, u)
		}
	}
	return append(out, a.Mirrors[s.uri]...)
}
