package archive

import (
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/lock"
)

// offered is an offer in few bytes: there may be hundreds of thousands.
type offered struct {
	text    string            // all fields, one behind the other
	ends    [allFields]uint32 // where each ends
	size    int64
	archive int16 // -1 for none
	rank    int8
}

func (e *offered) get(field int) string {
	if field == 0 {
		return e.text[:e.ends[0]]
	}
	return e.text[e.ends[field-1]:e.ends[field]]
}

// key is the same for the same file of the same package.
func (e *offered) key() string { return e.text[:e.ends[fieldSum]] }

// add takes a stanza; one that is malformed, or too long, isn't offered.
func (o *offering) add(rec *record, archive, rank int) error {
	size, ok := rec.file()
	if !ok {
		if rec.long {
			o.note("%s %s of %s isn't offered: what its index says of it is too long",
				rec.field[fieldName], rec.field[fieldVersion], o.archives[archive].Name)
		}
		return nil
	}
	rec.field[fieldSize] = rec.field[fieldSize][:0]
	if name, _, ok := strings.Cut(string(rec.field[fieldSource]), " "); ok {
		rec.field[fieldSource] = append(rec.field[fieldSource][:0], name...)
	}
	n := 0
	for _, f := range rec.field {
		n += len(f)
	}
	var b strings.Builder
	b.Grow(n)
	e := offered{size: size, archive: int16(archive), rank: int8(rank)}
	for i, f := range rec.field {
		b.Write(f)
		e.ends[i] = uint32(b.Len())
	}
	e.text = b.String()
	return o.append(e)
}

// put is add for what isn't out of an index.
func (o *offering) put(fields [allFields]string, size int64, archive, rank int) error {
	e := offered{text: strings.Join(fields[:], ""), size: size, archive: int16(archive), rank: int8(rank)}
	end := 0
	for i, f := range fields {
		end += len(f)
		e.ends[i] = uint32(end)
	}
	return o.append(e)
}

func (o *offering) append(e offered) error {
	if o.bytes += len(e.text); len(o.entries) == maxOffers || o.bytes > maxOfferBytes {
		return errTooMuch
	}
	o.entries = append(o.entries, e)
	return nil
}

// settle drops what is offered already of the entries from mark on.
func (o *offering) settle(mark int) {
	kept := o.entries[:mark]
	for _, e := range o.entries[mark:] {
		if k := e.key(); !o.seen[k] {
			o.seen[k] = true
			kept = append(kept, e)
		}
	}
	clear(o.entries[len(kept):])
	o.entries = kept
}

// reach are the names that packages named Names may come to need, as packages or as
// what they provide, nil where all is offered.
func (o *offering) reach() map[string]bool {
	if len(o.opts.Names) == 0 {
		return nil
	}
	by := make(map[string][]int32) // who has or provides a name
	for i := range o.entries {
		e := &o.entries[i]
		by[e.get(fieldName)] = append(by[e.get(fieldName)], int32(i))
		for name := range relationNames(e.get(fieldProvides)) {
			by[name] = append(by[name], int32(i))
		}
	}
	reached := make(map[string]bool)
	var todo []string
	visit := func(name string) {
		if !reached[name] {
			reached[name] = true
			todo = append(todo, name)
		}
	}
	for _, name := range o.opts.Names {
		visit(name)
	}
	done := make(map[int32]bool)
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, i := range by[name] {
			if done[i] {
				continue
			}
			done[i] = true
			e := &o.entries[i]
			reached[e.get(fieldName)] = true
			if o.installed(e.get(fieldName), e.get(fieldArch)) != "" {
				continue
			}
			for _, f := range []int{fieldPreDepends, fieldDepends} {
				for needed := range relationNames(e.get(f)) {
					visit(needed)
				}
			}
		}
	}
	return reached
}

// relationNames are the packages that a relation speaks of, without versions,
// architectures and qualifiers.
func relationNames(relation string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for rest := relation; rest != ""; {
			i := strings.IndexAny(rest, ",|")
			one := rest
			if i >= 0 {
				one, rest = rest[:i], rest[i+1:]
			} else {
				rest = ""
			}
			one = strings.TrimLeft(one, " \t")
			if i := strings.IndexAny(one, " \t(:[<"); i >= 0 {
				one = one[:i]
			}
			if one != "" && !yield(one) {
				return
			}
		}
	}
}

// packages are the offers, by name, architecture and rank.
func (o *offering) packages() []Offer {
	o.wanted = o.reach()
	var out []Offer
	for i := range o.entries {
		e := &o.entries[i]
		if o.wanted != nil && !o.wanted[e.get(fieldName)] {
			continue
		}
		k := lock.Package{Name: e.get(fieldName), Version: e.get(fieldVersion), Architecture: e.get(fieldArch),
			Path: e.get(fieldPath), Size: e.size, SHA256: e.get(fieldSum), Proof: lock.Repacked}
		asked := false
		if e.archive >= 0 {
			from := o.archives[e.archive]
			k.Archive, k.Proof = from.Name, lock.Exact
			asked = o.asked[from.URI+" "+from.Suite]
		} else {
			k.Path = ""
		}
		out = append(out, Offer{Package: k, Rank: int(e.rank), NotAutomatic: asked, Source: e.get(fieldSource),
			MultiArch: e.get(fieldMultiArch), PreDepends: e.get(fieldPreDepends), Depends: e.get(fieldDepends),
			Conflicts: e.get(fieldConflicts), Breaks: e.get(fieldBreaks), Replaces: e.get(fieldReplaces),
			Provides: e.get(fieldProvides), Recommends: e.get(fieldRecommends)})
	}
	slices.SortStableFunc(out, func(a, b Offer) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		if c := strings.Compare(a.Architecture, b.Architecture); c != 0 {
			return c
		}
		return a.Rank - b.Rank
	})
	return out
}

// used are the archives that offers are of.
func (o *offering) used() []lock.Archive {
	used := make(map[int16]bool)
	for i := range o.entries {
		if e := &o.entries[i]; o.wanted == nil || o.wanted[e.get(fieldName)] {
			used[e.archive] = true
		}
	}
	var out []lock.Archive
	for i, a := range o.archives {
		if used[int16(i)] {
			out = append(out, a)
		}
	}
	return out
}
