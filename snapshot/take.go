package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// maxEntries bounds what is kept in memory of a host; the largest seen has a
// tenth of it.
const maxEntries = 5_000_000

// Kernel is the reason by which Rules leave out kernels, modules and firmware:
// their packages are never unpacked, so not even their folders are kept.
const Kernel = "kernel"

// Take reads a host: its database and the files its facts are in, then one
// listing of everything. No other content is read. What can't matter for a root
// is summed up at once, so that a host full of data takes no more memory than an
// empty one.
func Take(ctx context.Context, host Host, readers []Reader, rules Rules, progress Progress) (*Inventory, error) {
	db, err := readDatabase(ctx, host, readers, progress)
	if err != nil {
		return nil, err
	}
	s := newSurvey(db, rules, progress)
	if err := host.Files(ctx, ".", s.see); err != nil {
		return nil, fmt.Errorf("listing the host: %w", err)
	}
	progress.Report(Event{Stage: "listing", Done: s.seen, Unit: "files"})
	s.own()
	if err := s.settle(ctx, host); err != nil {
		return nil, err
	}
	if h, ok := host.(Summed); ok {
		for _, row := range h.Summed() {
			s.left.put(row)
		}
	}
	inv := &Inventory{Database: db, Entries: s.kept, Unreadable: s.unreadable, Links: s.links, hidden: s.hidden, names: s.names}
	if inv.people, err = readPeople(ctx, host, rules, inv); err != nil {
		return nil, err
	}
	inv.Left = s.left.sorted(inv.people.shown)
	inv.people.hide(inv.Unreadable, func(p string) bool { return s.owned[p] })
	links := NewLinks(inv.Links)
	for i := range db.Packages {
		for member, p := range db.Packages[i].Records {
			db.Packages[i].Records[member] = links.Locate(p)
		}
	}
	inv.Facts, err = facts(ctx, host, inv)
	return inv, err
}

// survey is an inventory while it is made.
type survey struct {
	rules    Rules
	db       *Database
	progress Progress
	seen     int64

	// names are the elements of all paths in the database. A file with another
	// name is in no package, whatever links lead to it: that is known before all
	// links are.
	names map[string]bool
	owned map[string]bool   // paths that packages own, as the host has them
	links map[string]string // links that may be on the way to an owned path
	shut  map[string]bool   // paths in unreadable
	// reached are folders, and only those, that a link in a package's place leads to:
	// the file that a package's link points at may well be data.
	reached map[string]bool
	// hidden are files, as hard links name them, that may not leave under one of
	// their names: nor may they under another.
	hidden map[string]bool

	kept       []Entry // candidates at first
	left       *leftovers
	unreadable []Left
}

func newSurvey(db *Database, rules Rules, progress Progress) *survey {
	s := &survey{rules: rules, db: db, progress: progress, names: map[string]bool{}, owned: map[string]bool{},
		links: map[string]string{}, hidden: map[string]bool{}, shut: map[string]bool{}, reached: map[string]bool{}, left: newLeftovers()}
	for i := range db.Packages {
		for _, f := range db.Packages[i].Files {
			s.name(f)
		}
	}
	for _, d := range db.Diversions {
		s.name(d.From)
		s.name(d.To)
	}
	return s
}

// name remembers the elements of a path, from the right up to one whose folder is
// known already in most cases.
func (s *survey) name(p string) {
	for p != "" {
		i := strings.LastIndexByte(p, '/')
		e := p[i+1:]
		s.names[e] = true
		p = p[:max(i, 0)]
	}
}

const (
	nearLinks    = 3 // folders below the root in which any link is remembered
	maxNearLinks = 200_000
	maxShut      = 10_000
)

// see takes a path of the listing: it is a candidate for an entry, or left.
func (s *survey) see(f File, err error) error {
	if s.seen++; s.seen%4096 == 0 {
		s.progress.Report(Event{Stage: "listing", Item: f.Path, Done: s.seen, Unit: "files"})
	}
	if err != nil {
		if s.unread(f, err); f.Type == 0 {
			return nil
		}
	}
	if !ValidPath(f.Path) {
		s.unread(f, errors.New("its path is too long"))
		return s.notBelow(f)
	}
	mayOwn := f.Path == "." || s.names[base(f.Path)]
	if f.Type == Symlink && (mayOwn || strings.Count(f.Path, "/") < nearLinks && len(s.links) < maxNearLinks) {
		s.links[f.Path] = f.Target
	}
	e := Entry{File: f}
	if f.Path != "." {
		e.Class, e.Reason = s.rules.Path(f.Path, f.Type)
	}
	if f.Link != "" && f.Size > 0 && (e.Class == Secret || s.replaced(&e)) {
		s.hidden[f.Link] = true
	}
	if !mayOwn && !s.matters(&e) {
		s.leave(e)
		return nil
	}
	if len(s.kept) >= maxEntries {
		return fmt.Errorf("reading /%s: more than %d entries that could matter", f.Path, maxEntries)
	}
	s.kept = append(s.kept, e)
	return nil
}

// notBelow ends a listing's way down.
func (s *survey) notBelow(f File) error {
	if f.Type == Dir {
		return fs.SkipDir
	}
	return nil
}

// matters decides on a path that no package owns: true where it may be kept.
func (s *survey) matters(e *Entry) bool {
	switch e.Class {
	case Noise:
		return false
	case Secret:
		return s.stands(e)
	}
	class, reason, keepFolder := s.rules.Place(e.Path, e.Type, s.names[base(parent(e.Path))])
	if class == Made || keepFolder {
		return true
	}
	e.Class, e.Reason = class, reason
	return false
}

// stands reports whether something takes the place of a secret, for which its
// mode and owner are needed.
func (s *survey) stands(e *Entry) bool {
	return e.Class == Secret && s.replaced(e)
}

// replaced reports whether something is made to take the place of a file.
func (s *survey) replaced(e *Entry) bool {
	if e.Type != Regular {
		return false
	}
	_, _, ok := s.rules.Stands(e.Path, nil, Owners{})
	return ok
}

func (s *survey) leave(e Entry) { s.left.add(e.File, e.Class, e.Reason) }

// unread notes a path that could not be read, once: a folder comes again when its
// listing breaks off.
func (s *survey) unread(f File, err error) {
	switch {
	case s.shut[f.Path]:
	case len(s.unreadable) < maxShut:
		s.shut[f.Path] = true
		s.unreadable = append(s.unreadable, Left{Path: f.Path, Reason: err.Error(), Files: 1, Bytes: f.Size})
	default:
		last := &s.unreadable[maxShut-1]
		last.Reason, last.Files = "so many paths can't be read that this row stands for the rest", last.Files+1
	}
}

func base(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// own finds the paths that packages own on this host: their records spell them
// with or without the links of a merged /usr, and diversions move files.
func (s *survey) own() {
	links := NewLinks(s.links)
	moved := map[string]Diversion{}
	for _, d := range s.db.Diversions {
		moved[links.Locate(d.From)] = d
	}
	for i := range s.db.Packages {
		p := &s.db.Packages[i]
		for _, f := range p.Files {
			real := links.Locate(f)
			if d, ok := moved[real]; ok && d.By != p.Name {
				real = links.Locate(d.To)
			}
			s.owned[real] = true
			if _, isLink := s.links[real]; isLink {
				// A package's folder may be a link here: where it leads is the package's.
				if dir, err := links.Dir(real); err == nil {
					s.reached[dir] = true
				}
			}
		}
	}
}

// HardLinked is the reason for files that stay behind for another of their names.
const HardLinked = "a hard link to a file that may not leave"

// settle gives each candidate its class, leaves those that are not kept, and adds
// the folders around the others.
func (s *survey) settle(ctx context.Context, host Host) error {
	kept := s.kept[:0]
	for _, e := range s.kept {
		if s.hidden[e.Link] && e.Class != Secret && !s.replaced(&e) {
			e.Class, e.Reason = Secret, HardLinked
		}
		if s.decide(&e) {
			kept = append(kept, e)
		} else {
			s.leave(e)
		}
	}
	clear(s.kept[len(kept):])
	s.kept = kept
	if err := s.addFolders(ctx, host); err != nil {
		return err
	}
	slices.SortFunc(s.kept, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	s.kept = slices.CompactFunc(s.kept, func(a, b Entry) bool { return a.Path == b.Path })
	s.group()
	slices.SortFunc(s.unreadable, func(a, b Left) int { return cmp.Compare(a.Path, b.Path) })
	return nil
}

// decide reports whether a candidate is kept, and completes its class.
func (s *survey) decide(e *Entry) bool {
	owned := e.Path == "." || s.owned[e.Path]
	if e.Type == Dir && e.Class != Secret {
		owned = owned || s.reached[e.Path]
	}
	switch {
	case owned && e.Type == Dir && e.Reason != Kernel:
		e.Class, e.Reason = Owned, "" // a folder has no content: only what is in it may be secret or noise
		return true
	case e.Class == Noise || e.Class == Secret:
		return owned || s.stands(e)
	case owned:
		e.Class = Owned
		return true
	}
	var keepFolder bool
	e.Class, e.Reason, keepFolder = s.rules.Place(e.Path, e.Type, s.owned[parent(e.Path)] || s.reached[parent(e.Path)])
	return e.Class == Made || keepFolder
}

// addFolders makes entries of the folders around kept paths that are none yet.
func (s *survey) addFolders(ctx context.Context, host Host) error {
	have := map[string]bool{}
	for _, e := range s.kept {
		have[e.Path] = true
	}
	var missing []string
	for _, p := range slices.Sorted(maps.Keys(s.reached)) {
		class, reason := s.rules.Path(p, Dir)
		if !have[p] && !s.owned[p] && class != Secret && reason != Kernel {
			have[p] = true
			missing = append(missing, p)
		}
	}
	for _, e := range s.kept {
		for p := parent(e.Path); e.Path != "." && !have[p]; p = parent(p) {
			have[p] = true
			missing = append(missing, p)
		}
	}
	for _, p := range missing {
		err := host.Files(ctx, p, func(f File, err error) error {
			if err == nil && f.Path == p && f.Type == Dir {
				e := Entry{f, State, "the folder of kept files"}
				if s.owned[p] || s.reached[p] {
					e.Class, e.Reason = Owned, ""
				}
				s.kept = append(s.kept, e)
			}
			return fs.SkipDir
		})
		if err != nil {
			return fmt.Errorf("reading /%s: %w", p, err)
		}
	}
	return nil
}

// group names each group of hard links by its first path among those whose
// content is kept; a file that is alone there is in none.
func (s *survey) group() {
	counts := map[string]int{}
	inGroup := func(e *Entry) bool { return e.Link != "" && (e.Class == Owned || e.Class == Made) }
	for i := range s.kept {
		if e := &s.kept[i]; inGroup(e) {
			counts[e.Link]++
		}
	}
	first := map[string]string{}
	for i := range s.kept {
		e := &s.kept[i]
		if !inGroup(e) || counts[e.Link] < 2 {
			e.Link = ""
			continue
		}
		if first[e.Link] == "" {
			first[e.Link] = e.Path // entries are sorted
		}
		e.Link = first[e.Link]
	}
}
