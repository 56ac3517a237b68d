package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	debversion "github.com/knqyf263/go-deb-version"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

// Offer is a package that can be added to an env, with what it says of others:
// deb-control(5).
type Offer struct {
	lock.Package // Archive is the name of one of Offers.Archives, or ""
	MultiArch    string
	PreDepends   string
	Depends      string
	Conflicts    string
	Breaks       string
	Replaces     string
	Provides     string
	Recommends   string
	Source       string // name of the source package, where it differs
	Rank         int    // orders where the same version comes from, the best first
	NotAutomatic bool   // its archive offers it to those who ask for it alone, as backports do
}

// The ranks of offers.
const (
	RankCurrent  = iota // the index that an archive serves today
	RankRecorded        // the index that a lock names, which has what is older
	RankHeld            // a file that is at hand
)

// Held is a package file that is at hand, whatever indexes say today.
type Held struct {
	Offer
	// From is the archive that it came from, zero where none has it.
	From lock.Archive
}

// OfferOptions say what is offered.
type OfferOptions struct {
	// Foreign are architectures beside the native one: "i386".
	Foreign []string
	// Names are packages, or what packages provide: these are offered, with all that they
	// may come to need. Without any, everything is.
	Names []string
	// Installed is the version that the base has of a package, "" where it has none; nil
	// for no base. What it has needs nothing more.
	Installed func(name, architecture string) (version string)
	// Held gives the files at hand of packages with such names; nil for none.
	Held func(ctx context.Context, wanted func(name string) bool) ([]Held, error)
	// Machine is this machine, nil for none. Its keyrings stand in where the host has none
	// of an archive's keys, for the keys that the lock recorded.
	Machine snapshot.Host
}

// Offers are what the archives of a host have.
type Offers struct {
	Archives []lock.Archive // those that offers name; the signed files are in the store
	Packages []Offer
	// Problems are archives that could not be read: what they have is missing here.
	Problems []*Problem
}

// Offers finds what can be added to a host: all that its own sources have today, what
// the indexes have that its lock (Previous) names, and what is at hand. An archive that
// can't be read is a Problem and no error.
func (d Debian) Offers(ctx context.Context, opts OfferOptions) (*Offers, error) {
	d.Fetch.Attempts = cmp.Or(d.Fetch.Attempts, askAttempts)
	o := &offering{apt: newApt(d), opts: opts, seen: make(map[string]bool), read: make(map[string]bool), asked: make(map[string]bool)}
	if err := o.load(ctx); err != nil {
		return nil, err
	}
	o.addLocked()
	o.standIn = func(s source) openpgp.EntityList { return o.recordedKeys(ctx, opts.Machine, s) }
	if err := o.current(ctx); err != nil {
		return nil, err
	}
	if err := o.recorded(ctx); err != nil {
		return nil, err
	}
	if err := o.held(ctx); err != nil {
		return nil, err
	}
	if err := o.behind(ctx); err != nil {
		return nil, err
	}
	packages := o.packages()
	return &Offers{Archives: o.used(), Packages: packages, Problems: o.problems}, nil
}

// offering collects offers.
type offering struct {
	*apt
	opts     OfferOptions
	archives []lock.Archive
	entries  []offered
	bytes    int
	seen     map[string]bool // entries, by key
	read     map[string]bool // indexes, by digest
	asked    map[string]bool // URIs and suites of archives whose packages one has to ask for
	problems []*Problem
	wanted   map[string]bool // names, once they are known; nil for all
}

// The bounds of what is kept of indexes: Debian's main has 60,000 stanzas, of which 350
// bytes each matter.
const (
	maxOffers     = 500_000
	maxOfferBytes = 160 << 20
)

// askAttempts is how often an archive is asked that doesn't answer: a host may name some
// that are gone for good.
const askAttempts = 3

var errTooMuch = errors.New("the archives have more packages than can be kept in mind")

// trouble keeps a problem.
func (o *offering) trouble(place string, s source, err error) {
	o.problems = append(o.problems, &Problem{Place: place, URI: s.uri, Suite: s.suite, Err: err, Broken: isBroken(err), Past: s.past})
}

// archs are the architectures of packages that are offered.
func (o *offering) archs() []string {
	return union([]string{o.Architecture, "all"}, o.opts.Foreign)
}

// foreign is how stems is told of further architectures.
func (o *offering) foreign() (want []Want) {
	for _, arch := range o.opts.Foreign {
		want = append(want, Want{Architecture: arch})
	}
	return want
}

// current reads the indexes that the host's archives serve today.
func (o *offering) current(ctx context.Context) error {
	all, err := o.today(ctx, o.archs()...)
	if err != nil {
		return err
	}
	if err := o.prefetch(ctx, all, o.foreign()); err != nil {
		return err
	}
	for _, s := range o.unsigned {
		o.trouble("the current index", s, errors.New("it is trusted without a signature there, and nothing proves what it has"))
	}
	for _, t := range all {
		s, rel := t.source, t.rel
		if t.err != nil {
			o.trouble("the current index", s, t.err)
		}
		if rel == nil {
			continue
		}
		if _, ok := s.local(); ok && len(o.Mirrors[s.uri]) == 0 {
			o.trouble("the current index", s, errors.New("it is a folder of the host that nobody else can reach: name a mirror of it in fleet.toml"))
			continue
		}
		if err := o.indexes(ctx, s, rel, RankCurrent, nil); err != nil {
			return err
		}
	}
	return nil
}

// indexes takes all packages of a source that keep lets pass; nil lets all.
func (o *offering) indexes(ctx context.Context, s source, rel *release, rank int, keep func(*record) bool) error {
	place := "the current index"
	if rank == RankRecorded {
		place = "the index of " + rel.date.Format("2006-01-02")
	}
	from, err := o.evidence(ctx, s, rel)
	if err != nil {
		return err
	}
	archive, archs := o.archive(from), o.archs()
	o.asked[from.URI+" "+from.Suite] = rel.notAutomatic
	stems := o.stems(s, rel, o.foreign())
	if len(stems) == 0 {
		o.trouble(place, s, errors.New("its InRelease lists no index of packages with a SHA-256 digest for this host"))
	}
	gone := false
	for _, stem := range stems {
		sum := rel.sum(stem)
		if o.read[sum] {
			continue // nothing changed in it
		}
		mark, size := len(o.entries), o.bytes
		err := current{o.apt}.index(ctx, s, rel, stem, func(r io.Reader) error {
			o.entries, o.bytes = o.entries[:mark], size
			return scanPackages(ctx, r, allFields, func(rec *record) error {
				if !slices.Contains(archs, string(rec.field[fieldArch])) || keep != nil && !keep(rec) {
					return nil
				}
				return o.add(rec, archive, rank)
			})
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			o.entries, o.bytes = o.entries[:mark], size
			if errors.As(err, new(*sinkError)) || errors.Is(err, errTooMuch) {
				return err
			}
			if rank == RankRecorded && (isNotFound(err) || errors.As(err, new(FetchErrors)) && !o.Offline) {
				gone = true
				continue
			}
			o.trouble(place, s, fmt.Errorf("reading %s: %w", stem, err))
		default:
			o.read[sum] = keep == nil
			o.settle(mark)
		}
	}
	if gone {
		o.trouble(place, s, o.gone())
	}
	return nil
}

// gone says what helps where an index of earlier times isn't to be had.
func (o *offering) gone() error {
	if len(o.Snapshots) == 0 {
		return errors.New("it isn't served any more; a snapshot archive may have it: snapshots in fleet.toml")
	}
	return errors.New("it isn't served any more, and the snapshot archives don't have it")
}

// archive gives an archive a name of its own, the lock's where it is in there.
func (o *offering) archive(a lock.Archive) int {
	taken := make(map[string]bool)
	same := func(b lock.Archive) bool {
		return strings.TrimRight(b.URI, "/") == strings.TrimRight(a.URI, "/") && b.Suite == a.Suite && b.InRelease == a.InRelease
	}
	if i := slices.IndexFunc(o.archives, same); i >= 0 {
		return i
	}
	known := false
	if o.Previous != nil {
		for _, b := range o.Previous.Archives {
			taken[b.Name] = true
			if same(b) {
				a, known = b, true
			}
		}
	}
	for _, b := range o.archives {
		taken[b.Name] = true
	}
	if !known {
		a.Name = unique(a.Name, taken)
	}
	o.archives = append(o.archives, a)
	return len(o.archives) - 1
}

// held takes the files at hand.
func (o *offering) held(ctx context.Context) error {
	if o.opts.Held == nil {
		return nil
	}
	o.wanted = o.reach()
	held, err := o.opts.Held(ctx, func(name string) bool { return o.wanted == nil || o.wanted[name] })
	if err != nil {
		return err
	}
	archs, newest := o.archs(), o.newest()
	for _, h := range held {
		if !slices.Contains(archs, h.Architecture) || !isSHA256(h.SHA256) || h.Size <= 0 || !o.fits(h, newest) {
			continue
		}
		archive := -1
		if h.From.InRelease != "" {
			archive = o.archive(h.From)
		}
		mark := len(o.entries)
		if err := o.put(h.fields(), h.Size, archive, RankHeld); err != nil {
			return err
		}
		o.settle(mark)
	}
	return nil
}

// newest are the highest versions that indexes have, by name and architecture.
func (o *offering) newest() map[[2]string]debversion.Version {
	newest := make(map[[2]string]debversion.Version)
	for i := range o.entries {
		e := &o.entries[i]
		if o.wanted != nil && !o.wanted[e.get(fieldName)] {
			continue
		}
		k := [2]string{e.get(fieldName), e.get(fieldArch)}
		v, err := debversion.NewVersion(e.get(fieldVersion))
		if old, ok := newest[k]; err == nil && (!ok || v.GreaterThan(old)) {
			newest[k] = v
		}
	}
	return newest
}

// fits reports whether a file at hand belongs to the host's archives and stands in for
// what they dropped: what is chosen shouldn't depend on what else a store has been for.
func (o *offering) fits(h Held, newest map[[2]string]debversion.Version) bool {
	v, err := debversion.NewVersion(h.Version)
	if err != nil {
		return false
	}
	if most, ok := newest[[2]string{h.Name, h.Architecture}]; ok && v.GreaterThan(most) {
		return false
	}
	if h.From.InRelease == "" || isUpload(h.From.Suite) && isTree(h.From.URI) {
		return true
	}
	return slices.ContainsFunc(o.sources, func(s source) bool { return s.suite == h.From.Suite }) ||
		o.Previous != nil && slices.ContainsFunc(o.Previous.Archives, func(a lock.Archive) bool { return a.Suite == h.From.Suite })
}

func (h Held) fields() (f [allFields]string) {
	f[fieldName], f[fieldVersion], f[fieldArch] = h.Name, h.Version, h.Architecture
	f[fieldSum], f[fieldPath], f[fieldSource] = strings.ToLower(h.SHA256), h.Path, h.Source
	f[fieldMultiArch], f[fieldPreDepends], f[fieldDepends] = h.MultiArch, h.PreDepends, h.Depends
	f[fieldConflicts], f[fieldBreaks], f[fieldReplaces] = h.Conflicts, h.Breaks, h.Replaces
	f[fieldProvides], f[fieldRecommends] = h.Provides, h.Recommends
	return f
}
