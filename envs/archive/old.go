package archive

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

// old looks into archives of snapshots, which keep every file that Debian's archives
// ever had, and the archives as they were at many instants. Such an archive knows
// files by name, version and SHA-1. What proves one is the signed index of an instant
// at which it was current.
type old struct {
	*apt
	met func(source, *release) // told of each index that has what was looked for; or nil
}

const (
	snapshotsPlace = "the snapshots"
	snapshotsStage = "asking snapshot archives"
	lookUps        = 16 // at a time; how many a second is the Pacer's
	maxTrees       = 24 // instants that are looked at: an index has 9 MB
)

// sought is a package that a snapshot archive has files of.
type sought struct {
	Want
	files     []oldFile
	like      string    // the installed package that it goes with, where it isn't itself
	installed time.Time // zero where the host doesn't say
}

// in is when a file of the package first was in an archive.
func (s *sought) in(archive string) (first time.Time, ok bool) {
	for _, f := range s.files {
		for _, p := range f.places {
			if p.archive == archive && (!ok || p.first.Before(first)) {
				first, ok = p.first, true
			}
		}
	}
	return first, ok
}

func (o old) Locate(ctx context.Context, want []Want) (found Found, err error) {
	if len(o.Snapshots) == 0 || o.Offline {
		return found, nil
	}
	if err := o.load(ctx); err != nil {
		return found, err
	}
	for _, base := range o.Snapshots {
		if len(want) == 0 {
			break
		}
		cands, err := o.search(ctx, base, want)
		if ctx.Err() != nil {
			return found, context.Cause(ctx)
		}
		if err != nil && errors.As(err, new(*sinkError)) {
			return found, err
		}
		if err != nil {
			found.Problems = append(found.Problems, o.snapshotProblem(base, err))
		}
		found.Candidates = append(found.Candidates, cands...)
		want = missing(want, cands)
	}
	return found, nil
}

// snapshotProblem notes why a snapshot archive could not be searched. It is broken
// when it answered and then didn't: what it answered is kept, and the next search
// goes on there.
func (o old) snapshotProblem(base string, err error) *Problem {
	p := o.problem(snapshotsPlace, source{uri: base}, err)
	var gone *PaceError
	p.Broken = errors.As(err, &gone) && gone.Answered
	return p
}

func (o old) search(ctx context.Context, base string, want []Want) ([]Candidate, error) {
	all, lookErr := o.lookUp(ctx, base, want)
	if lookErr != nil && (ctx.Err() != nil || errors.As(lookErr, new(*sinkError))) {
		return nil, lookErr
	}
	if err := o.whenInstalled(ctx, all); err != nil {
		return nil, err
	}
	cands, proveErr := o.prove(ctx, base, all)
	if proveErr != nil && (ctx.Err() != nil || errors.As(proveErr, new(*sinkError))) {
		return nil, proveErr
	}
	var rest []*sought
	for _, s := range all {
		if len(missing([]Want{s.Want}, cands)) > 0 {
			rest = append(rest, s)
		}
	}
	if o.Indexed {
		return cands, errors.Join(lookErr, proveErr)
	}
	bare, err := o.unproved(ctx, base, rest)
	return append(cands, bare...), errors.Join(lookErr, proveErr, err)
}

// lookUp asks for each package whether there are files of it. What could be asked
// is returned beside the first error.
func (o old) lookUp(ctx context.Context, base string, want []Want) (all []*sought, err error) {
	var mu sync.Mutex
	var failed error
	done := int64(0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookUps)
	for _, same := range byVersion(want) {
		g.Go(func() error { // the first answer, which is kept, is that of all architectures
			for _, w := range same {
				files, err := o.binfiles(gctx, base, w)
				if err != nil && (gctx.Err() != nil || errors.As(err, new(*sinkError))) {
					return err
				}
				mu.Lock()
				if err != nil && (failed == nil || errors.As(err, new(*PaceError)) && !errors.As(failed, new(*PaceError))) {
					failed = err
				}
				if len(files) > 0 {
					all = append(all, &sought{Want: w, files: files})
				}
				done++
				o.Fetch.Progress.Report(snapshot.Event{Stage: snapshotsStage, Item: w.Name, Done: done, Total: int64(len(want)), Unit: "packages"})
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	at := make(map[Want]int, len(want))
	for i, w := range want {
		at[w] = i
	}
	slices.SortFunc(all, func(a, b *sought) int { return cmp.Compare(at[a.Want], at[b.Want]) })
	return all, failed
}

// byVersion puts the architectures of a package's version together.
func byVersion(want []Want) (groups [][]Want) {
	at := make(map[Want]int)
	for _, w := range want {
		key := Want{Name: w.Name, Version: w.Version}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], w)
	}
	return groups
}

// whenInstalled says when the host got its packages: dpkg wrote their lists then.
func (o old) whenInstalled(ctx context.Context, all []*sought) error {
	if len(all) == 0 {
		return nil
	}
	const dir = "var/lib/dpkg/info/"
	files, err := o.files.list(ctx, strings.TrimSuffix(dir, "/"))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	} else if err != nil {
		o.note("%v", err)
	}
	for _, s := range all {
		like := cmp.Or(s.like, s.Name)
		for _, name := range []string{like + ":" + s.Architecture, like} {
			if f, ok := files[dir+name+".list"]; ok {
				s.installed = time.Unix(f.MTime, 0)
				break
			}
		}
	}
	return nil
}

// unproved fetches what no index is found for. Nothing vouches for such a file but
// that it is, file by file, what is installed.
func (o old) unproved(ctx context.Context, base string, all []*sought) (cands []Candidate, err error) {
	var mu sync.Mutex
	var failed error
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Fetch.withDefaults().Parallel)
	for _, s := range all {
		for _, f := range s.files {
			g.Go(func() error {
				sum, err := o.bySHA1(gctx, base, s.Name+" "+s.Version, f)
				if err != nil && (gctx.Err() != nil || errors.As(err, new(*sinkError))) {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if failed == nil {
						failed = err
					}
					return nil
				}
				cands = append(cands, Candidate{Want: s.Want, Size: f.size, SHA256: sum,
					URLs: []string{fileURL(base, f.sha1)}, Snapshot: true})
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(cands, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Architecture, b.Architecture), cmp.Compare(a.SHA256, b.SHA256))
	})
	return cands, failed
}

// InSnapshots looks for files that a signed index names and their archive doesn't
// serve any more. The candidates of the answer are proved by the same index, and are
// to be had from a snapshot archive; their files are in the store. reserved are the
// archives whose names are taken.
func (d Debian) InSnapshots(ctx context.Context, cands []Candidate, reserved ...[]lock.Archive) (*Result, error) {
	o := old{apt: newApt(d)}
	res := &Result{}
	var want []Want
	by := make(map[Want][]Candidate)
	for _, c := range cands {
		if c.Archive.Name == "" || c.Snapshot {
			continue
		}
		if by[c.Want] == nil {
			want = append(want, c.Want)
		}
		by[c.Want] = append(by[c.Want], c)
	}
	for _, base := range d.Snapshots {
		if len(want) == 0 || d.Offline {
			break
		}
		all, err := o.lookUp(ctx, base, want)
		if err != nil && (ctx.Err() != nil || errors.As(err, new(*sinkError))) {
			return nil, err
		} else if err != nil {
			res.Problems = append(res.Problems, o.snapshotProblem(base, err))
		}
		moved, err := o.moved(ctx, base, all, by)
		if err != nil {
			return nil, err
		}
		res.Candidates = append(res.Candidates, moved...)
		want = missing(want, moved)
	}
	if d.Previous != nil {
		reserved = append(reserved, d.Previous.Archives)
	}
	res.Archives = nameArchives(res.Candidates, slices.Concat(reserved...))
	return res, nil
}

// moved are candidates under the address of a snapshot archive, as far as that has
// their very bytes.
func (o old) moved(ctx context.Context, base string, all []*sought, by map[Want][]Candidate) (out []Candidate, err error) {
	type match struct {
		Candidate
		sha1 string
	}
	var matches []match
	files := make(map[digest.Digest]File)
	for _, s := range all {
		for _, c := range by[s.Want] {
			for _, f := range s.files {
				if f.size != c.Size {
					continue
				}
				matches = append(matches, match{c, f.sha1})
				file := c.File()
				file.URLs = append(files[c.Digest()].URLs, fileURL(base, f.sha1))
				files[c.Digest()] = file
			}
		}
	}
	err = Fetch(ctx, o.Store, slices.Collect(maps.Values(files)), o.Fetch)
	if err != nil && !errors.As(err, new(FetchErrors)) {
		return nil, err
	} else if err != nil {
		o.note("%v", err)
	}
	for _, m := range matches {
		if !o.Store.HasBlob(m.Digest()) {
			continue
		}
		same, err := o.sameSHA1(m.Digest(), m.sha1)
		if err != nil {
			return nil, err
		}
		if !same {
			continue
		}
		c := m.Candidate
		c.Archive.Name += "-snapshot"
		c.Archive.URI, c.Path, c.HostPath, c.Snapshot = base, filePath(m.sha1), "", true
		c.URLs = URLs(c.Archive, c.Path, nil)
		out = append(out, c)
	}
	return out, nil
}
