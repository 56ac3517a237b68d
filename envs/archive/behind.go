package archive

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
)

// behind looks for versions that no index had: of packages that go with just one version
// of another, such as a library's headers, where the base has that in another version.
// Snapshot archives know every version by name, and the index that proves one of them
// has its siblings, too.
func (o *offering) behind(ctx context.Context) error {
	if len(o.Snapshots) == 0 || o.Offline || o.opts.Installed == nil {
		return nil
	}
	pairs := o.pairs()
	if len(pairs) == 0 {
		return nil
	}
	type tree struct {
		source
		rel *release
	}
	var trees []tree
	find := old{apt: o.apt, met: func(s source, rel *release) { trees = append(trees, tree{s, rel}) }}
	want := slices.SortedFunc(maps.Keys(pairs), func(a, b Want) int {
		return strings.Compare(a.Name+" "+a.Version+" "+a.Architecture, b.Name+" "+b.Version+" "+b.Architecture)
	})
	versions := make(map[string]bool)
	for _, w := range want {
		versions[w.Version] = true
	}
	for _, base := range o.Snapshots {
		found, err := find.indexed(ctx, base, want, pairs)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.As(err, new(*sinkError)) {
			return err
		}
		if err != nil {
			o.problems = append(o.problems, find.snapshotProblem(base, err))
		}
		if want = missing(want, found); len(want) == 0 {
			break
		}
	}
	for _, t := range trees {
		err := o.indexes(ctx, t.source, t.rel, RankRecorded, func(r *record) bool {
			return versions[string(r.field[fieldVersion])]
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// indexed looks for packages that some index of a snapshot archive names. like are the
// installed packages that they go with.
func (o old) indexed(ctx context.Context, base string, want []Want, like map[Want]string) ([]Candidate, error) {
	all, lookErr := o.lookUp(ctx, base, want)
	if lookErr != nil && (ctx.Err() != nil || errors.As(lookErr, new(*sinkError))) {
		return nil, lookErr
	}
	for _, s := range all {
		s.like = like[s.Want]
	}
	if err := o.whenInstalled(ctx, all); err != nil {
		return nil, err
	}
	found, err := o.prove(ctx, base, all)
	return found, errors.Join(lookErr, err)
}

// pairs are packages in versions that nobody offers so far and the base calls for, with
// the installed package that each goes with.
func (o *offering) pairs() map[Want]string {
	o.wanted = o.reach()
	offered := make(map[Want]bool)
	for i := range o.entries {
		e := &o.entries[i]
		offered[Want{e.get(fieldName), e.get(fieldVersion), e.get(fieldArch)}] = true
	}
	pairs := make(map[Want]string)
	for i := range o.entries {
		e := &o.entries[i]
		name, version, arch := e.get(fieldName), e.get(fieldVersion), e.get(fieldArch)
		if o.wanted != nil && !o.wanted[name] || o.installed(name, arch) != "" || o.wanted == nil {
			continue
		}
		for _, f := range []int{fieldPreDepends, fieldDepends} {
			for on := range exactly(e.get(f), version) {
				has := o.installed(on, arch)
				w := Want{name, has, arch}
				if has != "" && has != version && !offered[w] {
					pairs[w] = on
				}
			}
		}
	}
	return pairs
}

// installed is the version that the base has of a package; what is for all architectures
// goes with the native one.
func (o *offering) installed(name, arch string) string {
	if o.opts.Installed == nil {
		return ""
	}
	if v := o.opts.Installed(name, arch); v != "" {
		return v
	}
	if arch == "all" {
		return o.opts.Installed(name, o.Architecture)
	}
	return ""
}

// exactly are the packages that a relation calls for in just one version.
func exactly(relation, version string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for one := range strings.FieldsFuncSeq(relation, func(r rune) bool { return r == ',' || r == '|' }) {
			name, rest, ok := strings.Cut(strings.TrimSpace(one), "(")
			op, _, closed := strings.Cut(rest, ")")
			equal, is := strings.CutPrefix(strings.TrimSpace(op), "=")
			name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
			if ok && closed && is && strings.TrimSpace(equal) == version && name != "" && !yield(name) {
				return
			}
		}
	}
}
