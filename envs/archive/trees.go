package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// span is when the index of an archive may name a package.
type span struct {
	*sought
	from, to time.Time
}

// round is one way to guess when that is. Its spans are covered by few instants, so
// that one index serves many packages.
type round struct {
	span func(s *sought, first time.Time) (from, to time.Time)
	// upload says that new packages of suites that the host doesn't name are looked
	// for too: nearly every package was in one of them first.
	upload bool
}

// rounds are in the order of what covers most with the fewest indexes.
var rounds = []round{
	// When the host got it, it was current: a whole installation or upgrade has one date.
	{span: func(s *sought, first time.Time) (time.Time, time.Time) {
		return later(first, s.installed.Add(-day)), s.installed
	}},
	// The parts of a release come in within some weeks, and stay for long.
	{span: func(_ *sought, first time.Time) (time.Time, time.Time) {
		return first.Add(12 * day), first.Add(120 * day)
	}},
	// It was new once, in the suite where what is new goes.
	{span: func(_ *sought, first time.Time) (time.Time, time.Time) { return first, first.Add(day) }, upload: true},
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// prove searches the indexes of instants at which packages may have been current.
func (o old) prove(ctx context.Context, base string, all []*sought) (cands []Candidate, err error) {
	left := maxTrees
	var failed error
	for _, r := range rounds {
		for _, archive := range archivesOf(all) {
			for _, at := range cover(r.spans(all, archive)) {
				if left == 0 || len(all) == 0 {
					return cands, failed
				}
				found, err := o.instant(ctx, base, archive, at, all, r.upload)
				if err != nil && (ctx.Err() != nil || errors.As(err, new(*sinkError)) || errors.As(err, new(*PaceError))) {
					return cands, err
				} else if err != nil && failed == nil {
					failed = err
				}
				left--
				cands = append(cands, found...)
				all = slices.DeleteFunc(slices.Clone(all), func(s *sought) bool {
					return len(missing([]Want{s.Want}, found)) == 0
				})
			}
		}
	}
	return cands, failed
}

// archivesOf are the archives that packages were in, those with the most first.
func archivesOf(all []*sought) []string {
	count := make(map[string]int)
	for _, s := range all {
		for _, f := range s.files {
			for _, p := range f.places {
				count[p.archive]++
			}
		}
	}
	return slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
}

func (r round) spans(all []*sought, archive string) (spans []span) {
	for _, s := range all {
		first, ok := s.in(archive)
		if !ok {
			continue
		}
		if from, to := r.span(s, first); !to.Before(from) {
			spans = append(spans, span{s, from, to})
		}
	}
	return spans
}

// cover are the fewest instants that each span has one of, those with the most
// spans first: the earliest end is one of them, and so on with the spans that don't
// hold it.
func cover(spans []span) []time.Time {
	slices.SortStableFunc(spans, func(a, b span) int { return a.to.Compare(b.to) })
	type instant struct {
		at    time.Time
		spans int
	}
	var all []instant
	for len(spans) > 0 {
		at := spans[0].to
		rest := slices.DeleteFunc(slices.Clone(spans), func(s span) bool { return !s.from.After(at) })
		all = append(all, instant{at, len(spans) - len(rest)})
		spans = rest
	}
	slices.SortStableFunc(all, func(a, b instant) int { return cmp.Compare(b.spans, a.spans) })
	out := make([]time.Time, len(all))
	for i, a := range all {
		out[i] = a.at
	}
	return out
}

// instant searches an archive as it was at an instant, or last before.
func (o old) instant(ctx context.Context, base, archive string, at time.Time, all []*sought, upload bool) (cands []Candidate, err error) {
	if at, err = o.nearest(ctx, base, archive, at); err != nil {
		return nil, err
	}
	var want []Want
	files := make(map[Want][]oldFile)
	for _, s := range all {
		if first, ok := s.in(archive); ok && !first.After(at) {
			want = append(want, s.Want)
			files[s.Want] = s.files
		}
	}
	var failed error
	for _, s := range o.suites(archive, upload) {
		if len(want) == 0 {
			break
		}
		s.uri = base + "/archive/" + archive + "/" + at.UTC().Format(stamp)
		found, err := o.tree(ctx, s, want)
		if err != nil && (ctx.Err() != nil || errors.As(err, new(*sinkError)) || errors.As(err, new(*PaceError))) {
			return cands, err
		} else if err != nil && !errors.Is(err, errNever) { // not every suite was there then
			failed = err
			o.problem(snapshotsPlace, s, err)
		}
		for i, c := range found {
			found[i].Snapshot = true
			found[i].Archive.Name += "-" + c.Archive.Dated.Format("20060102")
			for _, f := range files[c.Want] {
				if f.size == c.Size {
					found[i].URLs = append(found[i].URLs, fileURL(base, f.sha1))
				}
			}
		}
		cands = append(cands, found...)
		want = missing(want, found)
	}
	return cands, failed
}

// nearest is the last instant at which a snapshot archive looked at another one, not
// after the one given. A server that doesn't list them finds it by itself.
func (o old) nearest(ctx context.Context, base, archive string, at time.Time) (time.Time, error) {
	all, err := o.instants(ctx, base, archive)
	if err != nil || len(all) == 0 {
		return at, err
	}
	i, exact := slices.BinarySearchFunc(all, at, time.Time.Compare)
	if !exact && i > 0 {
		i--
	}
	return all[min(i, len(all)-1)], nil
}

// tree searches one suite of an archive as it was. The clock of its signature is its
// own date, as everywhere: Valid-Until has passed, and the key may have expired.
func (o old) tree(ctx context.Context, s source, want []Want) ([]Candidate, error) {
	keys, err := o.keys(s)
	if err != nil {
		return nil, err
	}
	var rel *release
	dir := s.uri + "/" + escapePath(s.dir())
	get := func() ([]byte, error) { return signedFile(ctx, current{o.apt}.overNetwork, dir) }
	err = o.recall(dir, true, get, func(blob []byte) (err error) {
		if rel, err = verify(blob, keys); err != nil {
			return fmt.Errorf("checking its InRelease: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, err := current{o.apt}.searchRelease(ctx, s, rel, want)
	if len(found) > 0 && o.met != nil {
		o.met(s, rel)
	}
	return found, err
}

// suites are those of the host's that may be in an archive of that name, and for
// uploads those where what is new goes.
func (o old) suites(archive string, upload bool) (out []source) {
	for _, s := range o.sources {
		if path.Base(s.uri) == archive && !s.flat() {
			out = append(out, s)
		}
	}
	if len(out) == 0 { // under another name at the host's mirror
		for _, s := range o.sources {
			if !s.flat() {
				out = append(out, s)
			}
		}
	}
	for _, s := range slices.Clone(out) {
		if !upload || strings.ContainsAny(s.suite, "-/") {
			continue
		}
		for _, suite := range []string{s.suite + "-proposed-updates", "sid"} {
			s.suite = suite
			out = append(out, s)
		}
	}
	for i := range out {
		out[i].uri, out[i].siblings = "", nil
	}
	return mergeSources(out)
}
