package image

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Action is what becomes of a path of the host.
type Action string

// The actions that a review lists; a path that comes out of its package unchanged
// isn't in it.
const (
	Kept     Action = "kept"     // stored in the delta
	Gone     Action = "gone"     // a package brings it, the host lacks it
	Replaced Action = "replaced" // something made takes its place
	Left     Action = "left"     // stays on the host
	Repacked Action = "repacked" // part of a package that was built from the host's files
)

// Decision is one line of a review.
type Decision struct {
	Path   string         `json:"path"`
	Action Action         `json:"action"`
	Class  snapshot.Class `json:"class"`
	Reason string         `json:"reason"`
	Size   int64          `json:"size,omitempty"`
	SHA256 string         `json:"sha256,omitempty"` // of a file that left the host
}

// Plan is what a snapshot will store, before any content was read.
type Plan struct {
	Entries   store.Manifest // regular files lack their digest, and have their stamp
	Gone      []string
	Decisions []Decision // sorted by path
}

// Diff decides, from metadata alone, what of a host has to be stored so that the
// base becomes the host. stand are paths that something else takes the place of;
// they are never stored as they are.
func Diff(base *Base, inv *snapshot.Inventory, rules snapshot.Rules, stand map[string]bool) *Plan {
	d := &differ{base: base, inv: inv, rules: rules, stand: stand}
	for _, e := range inv.Entries {
		d.entry(e)
	}
	d.wholeGroups()
	d.parents()
	d.gone()
	d.plan.Entries.Normalize()
	d.plan.sort()
	plan := d.plan // without the rest of d, which is as large
	return &plan
}

// differ keeps what it stores in the order of paths, and no second copy of a host's
// entries: there may be hundreds of thousands.
type differ struct {
	base  *Base
	inv   *snapshot.Inventory
	rules snapshot.Rules
	stand map[string]bool
	plan  Plan
}

// store adds entries to the plan, which stays sorted, in place of what it has there.
func (d *differ) store(more store.Manifest) {
	byPath := func(a, b snapshot.File) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortFunc(more, byPath)
	kept := slices.DeleteFunc(d.plan.Entries, func(f snapshot.File) bool {
		_, again := more.Lookup(f.Path)
		return again
	})
	d.plan.Entries = append(kept, more...)
	slices.SortFunc(d.plan.Entries, byPath)
}

func (d *differ) decide(f snapshot.File, a Action, class snapshot.Class, reason string) {
	d.plan.Decisions = append(d.plan.Decisions, Decision{Path: f.Path, Action: a, Class: class, Reason: reason, Size: f.Size})
}

func (d *differ) entry(e snapshot.Entry) {
	f := plain(e.File)
	switch {
	case d.stand[f.Path]:
		return
	case e.Class == snapshot.Secret || e.Class == snapshot.Noise:
		d.decide(f, Left, e.Class, e.Reason)
		return
	case f.Type == snapshot.Socket || f.Type == snapshot.Char || f.Type == snapshot.Block:
		d.decide(f, Left, e.Class, "it is no file")
		return
	case unspeakable(f.Path):
		d.decide(f, Left, e.Class, "a layer takes this name for a whiteout")
		return
	}
	old, inBase := d.base.Manifest.Lookup(f.Path)
	if inBase && old.Same(f) && !d.base.Traversed[f.Path] {
		return
	}
	d.plan.Entries = append(d.plan.Entries, f) // the inventory is sorted
	why := reason(e, old, inBase)
	if d.base.Traversed[f.Path] && f.Type == snapshot.Symlink {
		why = "paths of packages lead through it"
	}
	d.decide(f, Kept, e.Class, why)
}

// unspeakable reports whether a layer can't hold a path: OCI keeps names that begin
// like a whiteout for itself ("Whiteouts" in the image specification).
func unspeakable(p string) bool {
	return strings.HasPrefix(p, whiteout) || strings.Contains(p, "/"+whiteout)
}

// plain is a host's entry as a manifest has it.
func plain(f snapshot.File) snapshot.File {
	f.User, f.Group = "", ""
	if f.Type != snapshot.Regular {
		f.Link, f.Size = "", 0
	}
	if f.Type != snapshot.Regular && f.Type != snapshot.Symlink {
		f.MTime = 0
	}
	if f.Type == snapshot.Symlink {
		f.Mode = 0o777
	}
	if len(f.Xattrs) == 0 || f.Type == snapshot.Symlink {
		f.Xattrs = nil
	}
	return f
}

func reason(e snapshot.Entry, old snapshot.File, inBase bool) string {
	switch {
	case e.Reason != "":
		return e.Reason
	case !inBase && e.Class == snapshot.Owned:
		return "several packages bring it, it was diverted, or its package was removed"
	case !inBase:
		return "in no package"
	case e.Type != old.Type:
		return "another type than the package's"
	case e.Type == snapshot.Regular && e.Size != old.Size:
		return "another content than the package's"
	case e.Type == snapshot.Symlink && e.Target != old.Target:
		return "another target than the package's"
	case e.Mode != old.Mode:
		return "another mode than the package's"
	case e.UID != old.UID || e.GID != old.GID:
		return "another owner than the package's"
	case e.MTime != old.MTime:
		return "another time than the package's"
	case e.Link != old.Link:
		return "other hard links than the package's"
	default:
		return "other attributes than the package's"
	}
}

// wholeGroups stores every member of a group of hard links of which one has to be
// stored: a layer can't link into another.
func (d *differ) wholeGroups() {
	groups := map[string]bool{}
	for _, f := range d.plan.Entries {
		if f.Link != "" {
			groups[f.Link] = true
		}
	}
	if len(groups) == 0 {
		return
	}
	var more store.Manifest
	for _, e := range d.inv.Entries {
		f := plain(e.File)
		if f.Link == "" || !groups[f.Link] || d.stand[f.Path] || unspeakable(f.Path) ||
			e.Class == snapshot.Secret || e.Class == snapshot.Noise {
			continue
		}
		if _, done := d.plan.Entries.Lookup(f.Path); !done {
			more = append(more, f)
			d.decide(f, Kept, e.Class, "a hard link to a file that is kept")
		}
	}
	d.store(more)
}

// parents makes sure that what is stored lies in folders.
func (d *differ) parents() {
	var missing store.Manifest
	have := func(dir string) bool {
		if f, ok := d.plan.Entries.Lookup(dir); ok {
			return f.Type == snapshot.Dir
		}
		f, ok := d.base.Manifest.Lookup(dir)
		return ok && f.Type == snapshot.Dir
	}
	seen := map[string]bool{}
	for _, f := range d.plan.Entries {
		for dir := path.Dir(f.Path); !seen[dir] && !have(dir); dir = path.Dir(dir) {
			seen[dir] = true
			f := snapshot.File{Path: dir, Type: snapshot.Dir, Mode: 0o755}
			if e, ok := d.inv.Lookup(dir); ok && e.Type == snapshot.Dir {
				f = plain(e.File)
			}
			missing = append(missing, f)
		}
	}
	d.store(missing)
	for _, f := range missing {
		d.decide(f, Kept, snapshot.State, "the folder of a file that is kept")
	}
}

// gone finds what packages bring and the host lacks: the uppermost path of each.
// What the rules leave on a host is no sign that it is missing there.
func (d *differ) gone() {
	unread := map[string]bool{}
	for _, u := range d.inv.Unreadable {
		unread[u.Path] = true
	}
	away := map[string]bool{} // gone, unknown, or under something that is no folder
	for _, f := range d.base.Manifest {
		dir := path.Dir(f.Path)
		if away[dir] {
			away[f.Path] = true
			continue
		}
		if s, ok := d.plan.Entries.Lookup(f.Path); ok {
			away[f.Path] = s.Type != snapshot.Dir
			continue
		}
		if _, there := d.inv.Lookup(f.Path); there || d.stand[f.Path] {
			continue
		}
		if unread[f.Path] {
			away[f.Path] = true
			continue
		}
		class, _ := d.rules.Path(f.Path, f.Type)
		if class == snapshot.Secret || class == snapshot.Noise {
			continue
		}
		away[f.Path] = true
		d.plan.Gone = append(d.plan.Gone, f.Path)
		d.decide(f, Gone, snapshot.Owned, "a package brings it, the host lacks it")
	}
}

// Leaving says why a path that was planned stays behind after all.
type Leaving struct {
	Class  snapshot.Class
	Reason string
	Shown  string // instead of the path, whose name may not leave either; "" for itself
}

// Settle completes the decisions once contents were read: with the digests of what is
// stored, what stays behind after all, by path, and what something else takes the
// place of.
func (p *Plan) Settle(stored store.Manifest, left map[string]Leaving, replaced []snapshot.File) {
	for i := range p.Decisions {
		d := &p.Decisions[i]
		if f, ok := stored.Lookup(d.Path); ok && d.Action == Kept {
			d.SHA256 = f.Digest
		}
		if l, ok := left[d.Path]; ok {
			d.Action, d.Class, d.Reason, d.Path = Left, l.Class, l.Reason, cmp.Or(l.Shown, d.Path)
		}
	}
	for _, f := range replaced {
		p.Decisions = append(p.Decisions, Decision{
			Path: f.Path, Action: Replaced, Class: snapshot.Secret, Reason: "it may not leave as it is", Size: f.Size, SHA256: f.Digest,
		})
	}
	p.sort()
}

// Add adds the files of a package that was built from the host's.
func (p *Plan) Add(files store.Manifest, reason string) {
	for _, f := range files {
		if f.Type == snapshot.Regular {
			p.Decisions = append(p.Decisions, Decision{Path: f.Path, Action: Repacked, Class: snapshot.Owned, Reason: reason,
				Size: f.Size, SHA256: f.Digest})
		}
	}
	p.sort()
}

func (p *Plan) sort() {
	slices.SortStableFunc(p.Decisions, func(a, b Decision) int { return cmp.Compare(a.Path, b.Path) })
}
