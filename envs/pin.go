package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// outside are packages that are locked but not put into the root filesystem: an env
// runs on the kernel of its machine.
var outside = []string{"linux-image-", "linux-modules-", "firmware-", "intel-microcode", "amd64-microcode"}

func isOutside(name string) bool {
	for _, prefix := range outside {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// search is where package files are looked for, and which.
func (s *snapshotter) search(installed []snapshot.Package) (archive.Debian, []archive.Want, error) {
	want := make([]archive.Want, 0, len(installed))
	for _, p := range installed {
		want = append(want, wanted(p))
	}
	if err := s.pace(); err != nil {
		return archive.Debian{}, nil, err
	}
	return archive.Debian{
		Host: s.host, Store: s.cfg.Store, Architecture: s.inv.Database.Architecture, Previous: s.previous,
		Mirrors: s.cfg.Fleet.allMirrors(), Pools: s.opts.Pools, Snapshots: s.snapshots, Fetch: s.fetch(),
	}, want, nil
}

// pin finds a package file for each installed package, and proves that it is what
// is installed. What no archive has is built from the host's own files.
func (s *snapshotter) pin(ctx context.Context) error {
	installed := s.remaining()
	debian, want, err := s.search(installed)
	if err != nil {
		return err
	}
	found := s.opts.listed
	if found == nil {
		found, err = debian.Locate(ctx, want)
	}
	if err != nil {
		return err
	}
	if err := searched(want, found); err != nil {
		return err
	}
	candidates, absent, err := s.obtain(ctx, found.Candidates)
	if err != nil {
		return err
	}
	if moved := unobtained(want, candidates, absent); len(moved) > 0 {
		more, err := s.obtainMoved(ctx, debian, moved, found, absent)
		if err != nil {
			return err
		}
		candidates = append(candidates, more...)
	}
	if candidates, err = s.rehome(ctx, debian, candidates, found, absent); err != nil {
		return err
	}
	if err := s.unpackCandidates(ctx, candidates, absent); err != nil {
		return err
	}
	if err := s.prove(ctx, installed, candidates, absent, found.Problems); err != nil {
		return err
	}
	used := map[string]bool{}
	for _, p := range s.packages {
		used[p.Archive] = true
	}
	if n := len(s.unheld); n > 0 {
		s.cfg.Progress.Note("proving", fmt.Sprintf("%d packages aren't to be had from their archives today, and the fleet keeps them: %s",
			n, strings.Join(s.unheld[:min(n, 5)], ", ")+strings.Repeat(", …", min(max(n-5, 0), 1))))
	}
	for _, a := range found.Archives {
		if used[a.Name] {
			used[a.Name] = false // both searches may have found it
			s.archives = append(s.archives, a)
		}
	}
	return nil
}

// remaining are the packages whose files are to be had. Of one that was removed only
// configuration is left, which is the delta's then: it is locked by name.
func (s *snapshotter) remaining() []snapshot.Package {
	var installed []snapshot.Package
	for _, p := range s.inv.Database.Packages {
		if p.State == "config-files" {
			k := lock.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture, Proof: lock.Listed}
			s.packages = append(s.packages, s.annotate(k, p))
			continue
		}
		installed = append(installed, p)
	}
	return installed
}

// obtainMoved asks the current indexes for what an old one names and its archive has
// moved since. It adds to found and absent.
func (s *snapshotter) obtainMoved(ctx context.Context, debian archive.Debian, moved []archive.Want,
	found *archive.Result, absent map[digest.Digest]error) ([]candidate, error) {
	debian.Fresh = true
	fresh, err := debian.Locate(ctx, moved)
	if err != nil {
		return nil, err
	}
	more, absentToo, err := s.obtain(ctx, fresh.Candidates)
	if err != nil {
		return nil, err
	}
	more = rename(more, fresh.Archives, found.Archives)
	maps.Copy(absent, absentToo)
	found.Archives = append(found.Archives, fresh.Archives...)
	return more, nil
}

// BrokenArchiveError says that packages may be in an archive that can't be searched
// for now. Building them from the host's files would do too, but a release is for
// ever: it shouldn't hold a hundred packages for a mirror that was being updated.
type BrokenArchiveError struct {
	Problem  *archive.Problem
	Packages int // that no other place has
}

func (e *BrokenArchiveError) Error() string {
	return fmt.Sprintf("looking for %d packages: %v", e.Packages, e.Problem)
}

// Unwrap is the problem.
func (e *BrokenArchiveError) Unwrap() error { return e.Problem }

// Hint says how to go on.
func (e *BrokenArchiveError) Hint() string {
	if e.Problem.Suite == "" { // a snapshot archive
		return "try again in a while: it goes on where it stopped; or do without " + e.Problem.URI
	}
	return "try again in a while, or name a mirror of it in fleet.toml"
}

// searched reports whether every archive that may have what wasn't found was asked.
func searched(want []archive.Want, found *archive.Result) error {
	have := map[archive.Want]bool{}
	for _, c := range found.Candidates {
		have[c.Want] = true
	}
	left := 0
	for _, w := range want {
		if !have[w] {
			left++
		}
	}
	for _, p := range found.Problems {
		if p.Broken && left > 0 {
			return &BrokenArchiveError{Problem: p, Packages: left}
		}
	}
	return nil
}

func wanted(p snapshot.Package) archive.Want {
	return archive.Want{Name: p.Name, Version: p.Version, Architecture: p.Architecture}
}

// rename gives archives a name that none of the others has, unless it is the same
// index: the one of today may differ from the host's.
func rename(candidates []candidate, archives, others []lock.Archive) []candidate {
	names := map[string]string{}
	for i, a := range archives {
		for n := 2; slices.ContainsFunc(others, func(o lock.Archive) bool {
			return o.Name == archives[i].Name && o.InRelease != a.InRelease
		}); n++ {
			archives[i].Name = fmt.Sprintf("%s-%d", a.Name, n)
		}
		names[a.Name] = archives[i].Name
	}
	for i, c := range candidates {
		candidates[i].Archive.Name = names[c.Archive.Name]
	}
	return candidates
}

// obtain sorts candidates by what can be reached and brings their files.
func (s *snapshotter) obtain(ctx context.Context, all []archive.Candidate) ([]candidate, map[digest.Digest]error, error) {
	candidates, err := s.reachable(ctx, all)
	if err != nil {
		return nil, nil, err
	}
	absent, err := s.bring(ctx, candidates)
	return candidates, absent, err
}

// unobtained are the packages that have candidates, and the file of none of them.
func unobtained(want []archive.Want, candidates []candidate, absent map[digest.Digest]error) []archive.Want {
	named, had := map[archive.Want]bool{}, map[archive.Want]bool{}
	for _, c := range candidates {
		named[c.Want] = true
		had[c.Want] = had[c.Want] || absent[c.Digest()] == nil
	}
	var without []archive.Want
	for _, w := range want {
		if named[w] && !had[w] {
			without = append(without, w)
		}
	}
	return without
}

// candidate is a package file with what its archive says of it today.
type candidate struct {
	archive.Candidate
	// held says that others can fetch it from its archive; else this store has to
	// keep it, even where a signed index still names it.
	held   bool
	before bool // the release before has it as this one
}

// reachable asks the archives which candidates they still have, and puts those
// first. What the release before had from an archive isn't asked again.
func (s *snapshotter) reachable(ctx context.Context, all []archive.Candidate) ([]candidate, error) {
	before := map[lock.Package]bool{}
	if s.previous != nil {
		for _, p := range s.previous.Packages {
			p.Want, p.State, p.Rootfs = "", "", ""
			if p.Proof == lock.Listed {
				p.Proof = lock.Exact // as pinned has it
			}
			before[p] = !store.Folder{Dir: s.cfg.Fleet.Blobs()}.Has(p.Digest())
		}
	}
	var ask []archive.Candidate
	for _, c := range all {
		if _, known := before[pinned(c)]; !known && !c.Snapshot {
			ask = append(ask, c)
		}
	}
	s.cfg.Progress.Report(snapshot.Event{Stage: "asking archives", Total: int64(len(ask)), Unit: "packages"})
	answers, err := archive.Probe(ctx, ask, archive.FetchOptions{})
	if err != nil {
		return nil, err
	}
	var held, other []candidate
	i := 0
	for _, c := range all {
		here, known := before[pinned(c)]
		switch {
		case known:
		case c.Snapshot: // it was asked a moment ago
			here = c.Archive.Name != ""
		default:
			here = answers[i] == archive.Present && c.Archive.Name != ""
			i++
		}
		if here {
			held = append(held, candidate{c, true, known})
		} else {
			other = append(other, candidate{c, false, known})
		}
	}
	return append(held, other...), nil
}

// bring fetches the candidates' files, from the host where it has them. It returns
// those that are nowhere any more; an archive that can't be reached is an error.
func (s *snapshotter) bring(ctx context.Context, all []candidate) (absent map[digest.Digest]error, err error) {
	absent = map[digest.Digest]error{}
	var need []archive.Candidate
	for _, c := range all {
		_, tree := s.cfg.Store.Find(store.Trees, image.TreeName(pinned(c.Candidate)))
		if !tree && !s.cfg.Store.HasBlob(c.Digest()) {
			need = append(need, c.Candidate)
		}
	}
	if err := archive.FromHost(ctx, s.host, s.cfg.Store, need, s.cfg.Progress); err != nil {
		return nil, err
	}
	files := map[digest.Digest]archive.File{} // one file may be in several archives
	for _, c := range need {
		if s.cfg.Store.HasBlob(c.Digest()) {
			continue
		}
		f, ok := files[c.Digest()]
		if !ok {
			f = c.File()
			f.URLs = nil
		}
		f.URLs = append(f.URLs, c.File().URLs...)
		files[c.Digest()] = f
	}
	var list []archive.File
	for d, f := range files {
		if len(f.URLs) == 0 {
			absent[d] = errors.New("the host's own file of it isn't what its archive names")
			continue
		}
		list = append(list, f)
	}
	err = archive.Fetch(ctx, s.cfg.Store, list, s.fetch())
	var each archive.FetchErrors
	if !errors.As(err, &each) {
		return absent, err
	}
	var other archive.FetchErrors
	for _, e := range each {
		if gone(e) {
			absent[e.Digest] = e
		} else {
			other = append(other, e)
		}
	}
	if len(other) > 0 {
		return nil, other
	}
	return absent, nil
}

// gone reports whether every address of a file answered that it isn't there.
func gone(e *archive.FetchError) bool {
	for _, t := range e.Tries {
		var status *archive.StatusError
		if !errors.As(t.Err, &status) || status.Code != http.StatusNotFound && status.Code != http.StatusGone {
			if !errors.Is(t.Err, fs.ErrNotExist) {
				return false
			}
		}
	}
	return true
}

func pinned(c archive.Candidate) lock.Package {
	return lock.Package{
		Name: c.Name, Version: c.Version, Architecture: c.Architecture,
		Archive: c.Archive.Name, Path: c.Path, Size: c.Size, SHA256: c.SHA256, Proof: lock.Exact,
	}
}

func (s *snapshotter) unpackCandidates(ctx context.Context, all []candidate, absent map[digest.Digest]error) error {
	var packages []lock.Package
	seen := map[digest.Digest]bool{}
	for _, c := range all {
		if absent[c.Digest()] != nil || isOutside(c.Name) || seen[c.Digest()] {
			continue
		}
		seen[c.Digest()] = true
		k := pinned(c.Candidate)
		if c.Archive.Name != "" {
			packages = append(packages, k)
			continue
		}
		// Nothing vouches for it: it may be no package at all, and then counts for nothing.
		if err := unpackAll(ctx, s.cfg, packageTrees([]lock.Package{k}), nil); err != nil {
			if ctx.Err() != nil {
				return err
			}
			absent[c.Digest()] = err
		}
	}
	byDigest := map[digest.Digest]candidate{}
	for _, c := range all {
		byDigest[c.Digest()] = c
	}
	return unpackAll(ctx, s.cfg, packageTrees(packages), func(ctx context.Context, d digest.Digest) error {
		if err := s.cfg.Store.DropBlob(d); err != nil {
			return err
		}
		absent, err := s.bring(ctx, []candidate{byDigest[d]})
		if e := absent[d]; e != nil {
			return e
		}
		return err
	})
}
