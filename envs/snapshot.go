package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// SnapshotOptions say what to make of a host.
type SnapshotOptions struct {
	Target  string
	Address string // of the host, as target.toml keeps it and caches go by
	Readers []snapshot.Reader
	Rules   snapshot.Rules
	Origin  string // lock.Observed where it is ""
	// Base is the release that a session stands on which is taken in a host's place; nil
	// for a host.
	Base *Release
	Take string // how much may leave, as the lock has it; Rules are to be of that level
	// Architecture is what the host is said to have beside its package database, which
	// is right where they differ; "" where nothing is said.
	Architecture string
	Pools        []archive.Pool
	// Wire says that the host is at the other end of one: what the store has isn't read
	// from it again.
	Wire bool
	// Accept is shown what would leave the host before anything is written to the
	// fleet; an error ends the snapshot. nil accepts everything.
	Accept func(*Review) error
	Now    time.Time

	listed *archive.Result // the files of all packages, known by name and version only
}

// SnapshotResult is what a snapshot came to.
type SnapshotResult struct {
	Release  Release       `json:"-"`
	Name     string        `json:"release"`
	Identity digest.Digest `json:"identity"`
	Rootfs   string        `json:"rootfs"`
	// New is false where the host is as the newest release says: nothing was written.
	New        bool            `json:"new"`
	Packages   map[string]int  `json:"packages"` // by proof
	Delta      lock.Delta      `json:"delta"`
	Unreadable []snapshot.Left `json:"unreadable"`
	// Repacked are the packages that no archive has, with what was tried.
	Repacked []RepackedPackage `json:"repacked"`
	// Unheld are packages that a signed index names and its archive doesn't serve any
	// more: their files are in the fleet.
	Unheld   []string        `json:"unheld"`
	Forecast Forecast        `json:"forecast"`
	Sole     []digest.Digest `json:"sole"` // blobs that exist only in this store
	// Changes are the packages of a list that differ from the release before.
	Changes []Change `json:"changes,omitempty"`
}

// RepackedPackage is a package that was built from the host's own files.
type RepackedPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Reason  string `json:"reason"`
}

// Snapshot reads a host and adds a release to the fleet, unless the host is as the
// newest release says.
func Snapshot(ctx context.Context, cfg Config, host snapshot.Host, opts SnapshotOptions) (*SnapshotResult, error) {
	if err := CheckName(opts.Target); err != nil {
		return nil, err
	}
	previous, err := opts.before(cfg.Fleet)
	if err != nil {
		return nil, err
	}
	inv, err := snapshot.Take(ctx, host, opts.Readers, opts.Rules, cfg.Progress)
	if err != nil {
		return nil, err
	}
	if said, known := opts.Architecture, inv.Facts.Architecture; said != "" && known != "" && said != known {
		cfg.Progress.Note("listing", fmt.Sprintf("the host is said to be %s, and its packages are %s", said, known))
	}
	if opts.Base != nil {
		opts.Origin, inv.Facts = lock.Derived, baseFacts(inv.Facts, previous.Host)
	}
	s := &snapshotter{cfg: cfg, host: host, opts: opts, inv: inv, previous: previous}
	if s.contents, err = newContents(cfg, host, opts.Rules, opts.Address); err != nil {
		return nil, err
	}
	defer s.contents.close() //nolint:errcheck // the next process clears what is left
	l, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	if s.isBase(l) {
		return s.result(*opts.Base, previous)
	}
	if opts.Accept != nil {
		if err := opts.Accept(s.review); err != nil {
			return nil, err
		}
	}
	s.review = nil // it may be large, and is stored
	if same, err := s.same(l); err != nil || !same {
		if err = errors.Join(err, s.index(ctx, l)); err != nil {
			return nil, err
		}
	}
	return s.publish(ctx, l)
}

// before is the lock of the release that a host is compared with, nil for the first.
func (o *SnapshotOptions) before(f *Fleet) (*lock.Lock, error) {
	if o.Base != nil {
		return o.Base.Lock()
	}
	return f.newest(o.Target)
}

// isBase reports whether a session is what its target has already. What its host left
// behind the session never had: reviews differ.
func (s *snapshotter) isBase(l *lock.Lock) bool {
	return s.opts.Base != nil && s.opts.Base.Target == s.opts.Target &&
		l.Rootfs == s.previous.Rootfs && slices.Equal(l.Packages, s.previous.Packages)
}

// take makes the lock, of as much as may leave the host.
func (s *snapshotter) take(ctx context.Context) (*lock.Lock, error) {
	if s.opts.Take == lock.TakeIndex {
		return s.takeIndex(ctx)
	}
	if err := s.pin(ctx); err != nil {
		return nil, err
	}
	return s.compose(ctx)
}

// newest is the lock of a target's newest release, nil where there is none.
func (f *Fleet) newest(target string) (*lock.Lock, error) {
	releases, err := f.Releases(target)
	if err != nil || len(releases) == 0 {
		return nil, err
	}
	newest := releases[len(releases)-1]
	text, err := newest.Text()
	if err != nil {
		return nil, err
	}
	l, err := lock.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", newest.Path, err)
	}
	return l, nil
}

// snapshotter makes one lock of one inventory.
type snapshotter struct {
	cfg      Config
	host     snapshot.Host
	opts     SnapshotOptions
	inv      *snapshot.Inventory
	previous *lock.Lock
	contents *contents

	archives []lock.Archive
	packages []lock.Package
	repacked []RepackedPackage
	unheld   []string        // packages that an index names and no archive serves
	keep     []digest.Digest // blobs that no archive has

	snapshots []string // addresses of snapshot archives
	pacer     *archive.Pacer
	review    *Review
	files     *indexFiles // that an index is made with; nil where no content leaves the host
	mentions  *mentions
	missing   []Needed // that stay for what is in them
	harmless  string   // the folder of the last path that has no secret in its name
}

// compose lays the pinned packages out, finds the delta and writes the lock.
func (s *snapshotter) compose(ctx context.Context) (*lock.Lock, error) {
	var in []lock.Package
	for _, p := range s.packages {
		if p.Rootfs != "out" && p.HasFile() {
			in = append(in, p)
		}
	}
	s.cfg.Progress.Report(snapshot.Event{Stage: "comparing"})
	trees, err := loadTrees(ctx, s.cfg, packageTrees(in))
	if err != nil {
		return nil, err
	}
	instead, err := s.standIns(ctx)
	if err != nil {
		return nil, err
	}
	stand := map[string]bool{}
	for _, i := range instead {
		stand[i.file.Path] = true
	}
	names := image.ParseNames(instead["etc/passwd"].content, instead["etc/group"].content)
	base, err := image.Compose(trees, s.inv.Links, names)
	if err != nil {
		return nil, err
	}
	s.contents.original = s.originals(base)
	plan := image.Diff(base, s.inv, s.opts.Rules, stand)
	if s.mentions, err = s.mention(ctx); err != nil {
		return nil, err
	}
	found, err := s.needed(ctx, s.mentions)
	if err != nil {
		return nil, err
	}
	s.inv.Entries = nil // the plan has what is needed of them
	delta, err := s.fill(ctx, plan, instead)
	if err != nil {
		return nil, err
	}
	manifest, err := image.Outcome(base, delta)
	if err != nil {
		return nil, err
	}
	rootfs, err := image.SaveManifest(ctx, s.cfg.Store, manifest)
	if err != nil {
		return nil, err
	}
	s.files = s.indexed(base, trees, delta, manifest)
	pinned, err := s.writeDelta(ctx, delta)
	if err != nil {
		return nil, err
	}
	review, err := s.saveReview(ctx, plan, found)
	if err != nil {
		return nil, err
	}
	s.keep = append(s.keep, pinned.Digest(), image.ManifestDigest(rootfs), review)
	return s.lock(pinned, review, rootfs), nil
}

// saveReview makes the review of all that left the host and all that didn't.
func (s *snapshotter) saveReview(ctx context.Context, plan *image.Plan, found []Needed) (digest.Digest, error) {
	for _, k := range s.packages {
		if k.Proof != lock.Repacked {
			continue
		}
		files, err := s.manifest(k)
		if err != nil {
			return "", err
		}
		plan.Add(files, "of "+k.Name+" "+k.Version+", which no archive has")
	}
	s.review = newReview(plan, s.inv)
	s.review.Needed = append(found, s.missing...)
	return s.review.save(ctx, s.cfg.Store)
}

func (s *snapshotter) lock(delta lock.Delta, review digest.Digest, rootfs string) *lock.Lock {
	f := s.inv.Facts
	now := s.opts.Now
	if now.IsZero() {
		now = time.Now()
	}
	origin := s.opts.Origin
	if origin == "" {
		origin = lock.Observed
	}
	return &lock.Lock{
		Version:  lock.Version,
		Take:     s.opts.Take,
		Release:  lock.Release{Target: s.opts.Target, Created: now.UTC().Truncate(time.Second), Origin: origin},
		Host:     hostFacts(f),
		Kernel:   kernelOf(f),
		Archives: s.archives,
		Packages: s.packages,
		Delta:    delta,
		Review:   &lock.Attachment{SHA256: review.Encoded()},
		Rootfs:   lock.Rootfs{Digest: rootfs},
	}
}

func hostFacts(f snapshot.Facts) lock.Host {
	return lock.Host{
		ID: f.ID, Version: f.Version, Codename: f.Codename, Architecture: f.Architecture, Libc: f.Libc,
		Kernel: f.Kernel, CPU: f.CPU, Umask: f.Umask, Locale: f.Locale, Timezone: f.Timezone, NoFile: f.NoFile,
	}
}

// kernelOf is what a host's facts tell of its kernel, or nil.
func kernelOf(f snapshot.Facts) *lock.Kernel {
	if f.KernelVersion == "" && len(f.SystemCalls) == 0 {
		return nil
	}
	return &lock.Kernel{Version: f.KernelVersion, SystemCalls: f.SystemCalls}
}

// instead is a file that takes the place of one of the host's.
type instead struct {
	file    snapshot.File
	content []byte
}

// standIns makes what takes the place of files that may not leave as they are.
// Where a rule says nothing of a file it goes the way of all others.
func (s *snapshotter) standIns(ctx context.Context) (map[string]instead, error) {
	const passwd, group = "etc/passwd", "etc/group"
	made := map[string]instead{}
	source := map[string][]byte{}
	err := s.host.Read(ctx, s.present(passwd, group, "etc/login.defs"), func(p string, r io.Reader, err error) error {
		if err == nil {
			source[p], err = io.ReadAll(io.LimitReader(r, 16<<20))
		}
		if err != nil {
			return fmt.Errorf("reading /%s: %w", p, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The rules tell lines of the three apart by their fields. A shadow file is made
	// of the names in passwd: the host's is never read.
	users := slices.Concat(source["etc/login.defs"], []byte("\n"), source[passwd])
	groups := slices.Concat(users, []byte("\n"), source[group])
	for p, from := range map[string][]byte{passwd: users, "etc/shadow": users, "etc/subuid": users, "etc/subgid": users,
		group: groups, "etc/gshadow": groups} {
		source[p] = from
	}
	owners := s.owners()
	for _, e := range s.inv.Entries {
		if e.Type != snapshot.Regular {
			continue
		}
		content, _, ok := s.opts.Rules.Stands(e.Path, source[e.Path], owners)
		if !ok {
			continue
		}
		f := snapshot.File{
			Path: e.Path, Type: snapshot.Regular, Mode: e.Mode, UID: e.UID, GID: e.GID, MTime: e.MTime,
			Size: int64(len(content)), Digest: digest.FromBytes(content).Encoded(),
		}
		made[e.Path] = instead{file: f, content: content}
	}
	return made, nil
}

// present are those of paths that are files of the host.
func (s *snapshotter) present(paths ...string) []string {
	var there []string
	for _, p := range paths {
		if e, ok := s.inv.Lookup(p); ok && e.Type == snapshot.Regular {
			there = append(there, p)
		}
	}
	return there
}

// owners are the ids that files which may be kept belong to.
func (s *snapshotter) owners() snapshot.Owners {
	o := snapshot.Owners{Users: map[uint32]bool{}, Groups: map[uint32]bool{}}
	for _, e := range s.inv.Entries {
		if e.Class != snapshot.Secret && e.Class != snapshot.Noise {
			o.Users[e.UID], o.Groups[e.GID] = true, true
		}
	}
	return o
}

// writeDelta stores the delta, unless the store knows one with the same content.
func (s *snapshotter) writeDelta(ctx context.Context, d *image.Delta) (lock.Delta, error) {
	st := s.cfg.Store
	pinned := lock.Delta{Files: len(d.Entries)}
	key := "delta-" + d.Key()
	if known, err := st.Recall(key); err == nil {
		sum, size, _ := strings.Cut(known, " ")
		pinned.SHA256 = sum
		if pinned.Size, err = strconv.ParseInt(size, 10, 64); err == nil && st.HasBlob(pinned.Digest()) {
			return pinned, nil
		}
	}
	if err := s.gather(ctx, d); err != nil {
		return pinned, err
	}
	s.cfg.Progress.Report(snapshot.Event{Stage: "writing delta"})
	w, err := st.NewCompressedBlob()
	if err != nil {
		return pinned, err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	err = d.Write(ctx, w, func(f snapshot.File) (io.ReadCloser, error) { return s.contents.open(ctx, f) })
	if err != nil {
		return pinned, err
	}
	pinned.Size = w.Size()
	sum, err := w.Commit(ctx, "")
	if err != nil {
		return pinned, err
	}
	pinned.SHA256 = sum.Encoded()
	return pinned, st.Remember(key, fmt.Sprintf("%s %d", pinned.SHA256, pinned.Size))
}

// gather brings the contents of a delta together. Of a host at the other end of a wire
// the release before has most of them.
func (s *snapshotter) gather(ctx context.Context, d *image.Delta) error {
	if s.opts.Wire && s.previous != nil && s.cfg.Store.HasBlob(s.previous.Delta.Digest()) {
		// What can't be unpacked is read from the host.
		if err := unpackAll(ctx, s.cfg, []unpacking{deltaTree(s.previous.Delta)}, nil); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return s.contents.gather(ctx, d.Entries, d.Instead, s.opts.Wire)
}

// publish writes what the release needs beside it, then the release.
func (s *snapshotter) publish(ctx context.Context, l *lock.Lock) (*SnapshotResult, error) {
	remote := store.Folder{Dir: s.cfg.Fleet.Blobs()}
	for _, a := range l.Archives {
		s.keep = append(s.keep, a.InRelease)
	}
	if l.Take != lock.TakeIndex { // which read none
		if err := s.contents.remember(); err != nil {
			return nil, err
		}
	}
	rel, added, err := s.cfg.Fleet.AddRelease(s.opts.Target, func(number int, parent Release) ([]byte, error) {
		l.Release.Number = number
		if parent.Number > 0 {
			id, err := parent.Identity()
			if err != nil {
				return nil, err
			}
			l.Release.Parent = id
			if id == lock.Identity(l.Write()) {
				return l.Write(), nil // it makes no release, and nothing is pushed
			}
		}
		if s.opts.Base != nil {
			var err error
			if l.Release.Parent, err = s.opts.Base.Identity(); err != nil {
				return nil, err
			}
		}
		return l.Write(), s.share(ctx, remote)
	})
	if err != nil {
		return nil, fmt.Errorf("adding a release of %s: %w", s.opts.Target, err)
	}
	res, err := s.result(rel, l)
	if err != nil {
		return nil, err
	}
	res.New = added
	for _, d := range s.keep {
		if s.cfg.Store.IsSole(d) {
			res.Sole = append(res.Sole, d)
		}
	}
	return res, nil
}

// result tells of a release, and how it came about.
func (s *snapshotter) result(rel Release, l *lock.Lock) (*SnapshotResult, error) {
	id, err := rel.Identity()
	res := &SnapshotResult{Release: rel, Name: rel.String(), Identity: id, Rootfs: l.Rootfs.Digest, Delta: l.Delta,
		Unreadable: s.inv.Unreadable, Repacked: s.repacked, Unheld: s.unheld, Forecast: s.forecast(l), Packages: map[string]int{}}
	for _, p := range l.Packages {
		res.Packages[p.Proof]++
	}
	return res, err
}

// share notes that no archive has what the release needs beside its packages, and
// puts it where the fleet keeps such things, if that is its own folder.
func (s *snapshotter) share(ctx context.Context, remote store.Folder) error {
	for _, d := range s.keep {
		err := s.cfg.Store.Sole(d)
		if err == nil && s.cfg.Fleet.Remote() == "" {
			err = remote.Push(ctx, s.cfg.Store, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
