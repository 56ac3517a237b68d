package host

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // dpkg's sums are MD5
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/stead-env/stead/snapshot"
)

// BundleOptions say what goes into a bundle.
type BundleOptions struct {
	Readers    []snapshot.Reader
	Rules      snapshot.Rules
	Keep, Drop []string // that Rules were made with
	// With names packages all files of which go in, for those that no archive has.
	With []string
	// Archived says that packages are in archives even where no list of the host's apt
	// names them.
	Archived bool
	// All takes every file that no rule withholds, and needs no package database.
	All      bool
	Maker    string
	Progress snapshot.Progress
}

// BundleItem is a file whose content goes into a bundle.
type BundleItem struct {
	Path   string
	Size   int64
	Reason string
	// instead is what goes in where the file's own content may not.
	instead []byte
}

// BundlePlan is what would go into a bundle.
type BundlePlan struct {
	Items    []BundleItem // sorted by path
	Unlisted []string     // packages that no list of apt names

	host      snapshot.Host
	opts      BundleOptions
	inv       *snapshot.Inventory
	live      snapshot.Live
	extra     map[string]bool // paths to be listed beside the inventory's
	unchanged []string
	notes     notes
}

// notes say why contents stay on the host.
type notes struct{ unlisted, unreadable, withheld []snapshot.Left }

// UnknownPackageError says that a package to be taken whole isn't installed.
type UnknownPackageError struct{ Name string }

func (e *UnknownPackageError) Error() string {
	return "planning a bundle: no package " + e.Name + " is installed"
}

// recorder notes which files are read.
type recorder struct {
	snapshot.Host
	mu   sync.Mutex
	read map[string]bool
}

func (r *recorder) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	r.mu.Lock()
	for _, p := range paths {
		r.read[p] = true
	}
	r.mu.Unlock()
	return r.Host.Read(ctx, paths, fn)
}

// PlanBundle reads a host and decides what of it goes into a bundle. Nothing is written.
func PlanBundle(ctx context.Context, h snapshot.Host, opts BundleOptions) (*BundlePlan, error) {
	p := &BundlePlan{host: h, opts: opts, extra: map[string]bool{}}
	var err error
	if p.live, err = h.Live(ctx); err != nil {
		return nil, err
	}
	if opts.All {
		return p, p.takeAll(ctx)
	}
	rec := &recorder{Host: h, read: map[string]bool{}}
	if p.inv, err = snapshot.Take(ctx, rec, opts.Readers, opts.Rules, opts.Progress); err != nil {
		return nil, err
	}
	own, err := p.owners()
	if err != nil {
		return nil, err
	}
	if err := p.archives(ctx, own); err != nil {
		return nil, err
	}
	for f := range rec.read {
		if there, err := p.lstat(ctx, f); err != nil || there.Type != snapshot.Regular {
			continue // it is asked for under several names
		}
		p.take(BundleItem{Path: f, Reason: "the package database, and what the host says of itself"})
	}
	if err := p.kept(ctx, own); err != nil {
		return nil, err
	}
	if err := p.replace(ctx); err != nil {
		return nil, err
	}
	p.complete()
	return p, nil
}

// take adds a file to the plan.
func (p *BundlePlan) take(i BundleItem) {
	p.Items = append(p.Items, i)
	p.extra[i.Path] = true
}

// takeAll plans to list and to take everything.
func (p *BundlePlan) takeAll(ctx context.Context) error {
	p.inv = &snapshot.Inventory{Database: &snapshot.Database{}}
	return p.host.Files(ctx, ".", func(f snapshot.File, err error) error {
		p.extra[f.Path] = true
		if class, _ := p.opts.Rules.Path(f.Path, f.Type); class != snapshot.Secret && f.Type == snapshot.Regular && err == nil {
			p.Items = append(p.Items, BundleItem{Path: f.Path, Size: f.Size, Reason: "everything is taken"})
		}
		return nil
	})
}

// owner is what the package database says of a file.
type owner struct {
	pkg    int // in the database
	md5    string
	shared bool // several packages bring it, it was diverted, or its package was removed
}

// owners finds the packages of files, by their paths on the host.
func (p *BundlePlan) owners() (map[string]*owner, error) {
	db := p.inv.Database
	known := map[string]bool{}
	links := snapshot.NewLinks(p.inv.Links)
	moved := map[string]snapshot.Diversion{}
	for _, d := range db.Diversions {
		moved[links.Locate(d.From)] = d
	}
	own := map[string]*owner{}
	for i := range db.Packages {
		pkg := &db.Packages[i]
		known[pkg.Name] = true
		conf := map[string]string{}
		for _, c := range pkg.Conffiles {
			conf[c.Path] = c.MD5
		}
		for _, f := range pkg.Files {
			real := links.Locate(f)
			d, diverted := moved[real]
			if diverted && d.By != pkg.Name {
				real = links.Locate(d.To)
			}
			e, ok := p.inv.Lookup(real)
			if !ok || e.Type != snapshot.Regular || e.Class != snapshot.Owned {
				continue
			}
			sum, isConf := conf[f]
			if !isConf {
				sum = pkg.MD5[f]
			}
			if o := own[e.Path]; o != nil {
				o.shared = true
			} else {
				// Nothing that is made at home brings the conffiles of a removed package.
				own[e.Path] = &owner{pkg: i, md5: sum, shared: diverted || pkg.State == "config-files"}
			}
		}
	}
	for _, name := range p.opts.With {
		if !known[name] {
			return nil, &UnknownPackageError{name}
		}
	}
	for l := range links.Traversed() {
		p.extra[l] = true
	}
	return own, nil
}

// kept takes the files that a snapshot stores: those in no package, and those that
// aren't as their package brought them.
func (p *BundlePlan) kept(ctx context.Context, own map[string]*owner) error {
	whole := map[int]string{}
	for i, pkg := range p.inv.Database.Packages {
		switch {
		case slices.Contains(p.opts.With, pkg.Name):
			whole[i] = "all of package " + pkg.Name
		case slices.Contains(p.Unlisted, pkg.Name+" "+pkg.Version+" "+pkg.Architecture) && !p.opts.Archived:
			whole[i] = "no list of apt names package " + pkg.Name
		}
	}
	var compare []string
	for _, e := range p.inv.Entries {
		if e.Type != snapshot.Regular || p.stands(e.Path) {
			continue
		}
		o := own[e.Path]
		switch {
		case e.Class == snapshot.Made:
			p.take(BundleItem{Path: e.Path, Reason: cmp.Or(e.Reason, "in no package")})
		case e.Class == snapshot.Secret && e.Reason == snapshot.HardLinked:
			p.notes.withheld = append(p.notes.withheld, snapshot.Left{Path: e.Path, Reason: e.Reason})
		case e.Class != snapshot.Owned:
		case o == nil || o.md5 == "":
			p.take(BundleItem{Path: e.Path, Reason: "its package gives no sum for it"})
		case whole[o.pkg] != "":
			p.take(BundleItem{Path: e.Path, Reason: whole[o.pkg]})
		case o.shared:
			p.take(BundleItem{Path: e.Path, Reason: "several packages bring it, it was diverted, or its package was removed"})
		default:
			compare = append(compare, e.Path)
		}
	}
	return p.compare(ctx, compare, own)
}

// compare takes those of some files that haven't the sums in the package database.
func (p *BundlePlan) compare(ctx context.Context, paths []string, own map[string]*owner) error {
	done := int64(0)
	buf := make([]byte, 256<<10)
	return p.host.Read(ctx, paths, func(f string, r io.Reader, err error) error {
		h := md5.New() //nolint:gosec // see the import
		if err == nil {
			_, err = io.CopyBuffer(h, struct{ io.Reader }{&abortable{r, ctx}}, buf)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if done++; done%256 == 0 {
			p.opts.Progress.Report(snapshot.Event{Stage: "comparing", Item: "/" + f, Done: done, Total: int64(len(paths)), Unit: "files"})
		}
		switch {
		case err != nil:
			p.notes.unreadable = append(p.notes.unreadable, snapshot.Left{Path: f, Reason: err.Error()})
		case hex.EncodeToString(h.Sum(nil)) != own[f].md5:
			p.take(BundleItem{Path: f, Reason: "another content than the package's"})
		default:
			p.unchanged = append(p.unchanged, f)
		}
		return nil
	})
}

// abortable ends reading when a context does.
type abortable struct {
	r   io.Reader
	ctx context.Context //nolint:containedctx // lives as long as one copy
}

func (a *abortable) Read(b []byte) (int, error) {
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	return a.r.Read(b)
}

func (p *BundlePlan) stands(name string) bool {
	_, _, ok := p.opts.Rules.Stands(name, nil, snapshot.Owners{})
	return ok
}

// replace makes what goes in instead of the accounts, so that no person does.
func (p *BundlePlan) replace(ctx context.Context) error {
	const defs, passwd, group = "etc/login.defs", "etc/passwd", "etc/group"
	p.Items = slices.DeleteFunc(p.Items, func(i BundleItem) bool { return p.stands(i.Path) })
	text := map[string][]byte{}
	var there []string
	for _, f := range []string{defs, passwd, group} {
		if e, ok := p.inv.Lookup(f); ok && e.Type == snapshot.Regular {
			there = append(there, f)
		}
	}
	err := p.host.Read(ctx, there, func(f string, r io.Reader, err error) error {
		if err == nil {
			text[f], err = io.ReadAll(io.LimitReader(r, 16<<20))
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", f, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	owners := snapshot.Owners{Users: map[uint32]bool{}, Groups: map[uint32]bool{}}
	for _, e := range p.inv.Entries {
		if e.Class != snapshot.Secret && e.Class != snapshot.Noise {
			owners.Users[e.UID], owners.Groups[e.GID] = true, true
		}
	}
	users := slices.Concat(text[defs], []byte("\n"), text[passwd])
	for f, from := range map[string][]byte{passwd: users, group: slices.Concat(users, []byte("\n"), text[group])} {
		if text[f] == nil {
			continue
		}
		if content, reason, ok := p.opts.Rules.Stands(f, from, owners); ok {
			p.take(BundleItem{Path: f, Reason: reason, instead: content})
		}
	}
	return nil
}

// complete sorts the plan, and lists the folders around all that it lists.
func (p *BundlePlan) complete() {
	byPath := func(a, b BundleItem) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortStableFunc(p.Items, byPath)
	p.Items = slices.CompactFunc(p.Items, func(a, b BundleItem) bool { return a.Path == b.Path })
	firstOf := map[string]bool{}
	p.Items = slices.DeleteFunc(p.Items, func(i BundleItem) bool { // one name of a file is enough
		if p.forbidden(i) {
			return true
		}
		e, ok := p.inv.Lookup(i.Path)
		if !ok || e.Link == "" {
			return false
		}
		again := firstOf[e.Link]
		firstOf[e.Link] = true
		return again
	})
	for i := range p.Items {
		if e, ok := p.inv.Lookup(p.Items[i].Path); ok {
			p.Items[i].Size = e.Size
		}
		if c := p.Items[i].instead; c != nil {
			p.Items[i].Size = int64(len(c))
		}
	}
	around := func(f string) {
		for d := path.Dir(f); d != "." && !p.extra[d]; d = path.Dir(d) {
			p.extra[d] = true
		}
	}
	for f := range p.extra {
		around(f)
	}
	for _, e := range p.inv.Entries {
		around(e.Path)
	}
	slices.Sort(p.unchanged)
}

// forbidden reports whether a file may not leave for its path: links lead anywhere.
func (p *BundlePlan) forbidden(i BundleItem) bool {
	if i.instead != nil {
		return false
	}
	class, reason := p.opts.Rules.Path(i.Path, snapshot.Regular)
	return class == snapshot.Secret || class == snapshot.Noise && strings.HasPrefix(reason, "dropped by ")
}

func (p *BundlePlan) wanted(f string) bool {
	if p.extra[f] {
		return true
	}
	_, ok := p.inv.Lookup(f)
	return ok
}

// inSources reports whether a file lists apt's archives, whose addresses may hold
// passwords.
func inSources(f string) bool {
	return f == "etc/apt/sources.list" || strings.HasPrefix(f, "etc/apt/sources.list.d/")
}

// masked is a list of archives with letters in the place of names and passwords in its
// addresses. It is as long as it was, and still looks as if it had passwords: what
// judges the original judges this the same. ok is false where it holds other secrets.
func masked(rules snapshot.Rules, f string, content []byte) (mask []byte, ok bool, err error) {
	const letters = "masked-by-stead"
	mask = bytes.Clone(content)
	var without []byte
	rest := content
	for {
		i := bytes.Index(rest, []byte("://"))
		if i < 0 {
			break
		}
		at := len(content) - len(rest) + i + 3
		without = append(without, rest[:i+3]...)
		rest = content[at:]
		end := bytes.IndexAny(rest, "/ \t\n\"'<>")
		if end < 0 {
			end = len(rest)
		}
		info := bytes.LastIndexByte(rest[:end], '@')
		if info < 0 {
			continue
		}
		for j := range info {
			if mask[at+j] != ':' {
				mask[at+j] = letters[j%len(letters)]
			}
		}
		rest = rest[info+1:]
	}
	without = append(without, rest...)
	reason, err := rules.Content(f, bytes.NewReader(without))
	return mask, reason == "" && err == nil, err
}

// BundleSum is what goes in for one reason.
type BundleSum struct {
	Reason       string
	Files, Bytes int64
}

// Sums are what would go into the bundle, by reason.
func (p *BundlePlan) Sums() []BundleSum {
	var all []BundleSum
	at := map[string]int{}
	for _, i := range p.Items {
		n, ok := at[i.Reason]
		if !ok {
			n = len(all)
			at[i.Reason] = n
			all = append(all, BundleSum{Reason: i.Reason})
		}
		all[n].Files++
		all[n].Bytes += i.Size
	}
	slices.SortFunc(all, func(a, b BundleSum) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}
