package envs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Config is what every verb works with.
type Config struct {
	Store    *store.Store
	Fleet    *Fleet
	Progress snapshot.Progress
	Jobs     int // packages unpacked at once; 0 for one a processor
}

// Root is a release's root filesystem on this machine.
type Root struct {
	Release  Release
	Identity digest.Digest
	Path     string // of the root filesystem; it must never be written
	Header   lock.Header
	Made     bool // it wasn't there before
}

// RootName is the name of a lock's root filesystem in the store.
func RootName(identity digest.Digest) string { return identity.Encoded() }

// Pull makes a release ready on this machine: what it lacks is fetched, unpacked
// and linked into a root filesystem with the digest that the lock names. A root
// that is there already is found without reading the lock's packages.
func Pull(ctx context.Context, cfg Config, rel Release) (*Root, error) {
	text, err := rel.Text()
	if err != nil {
		return nil, err
	}
	header, err := lock.ReadHeader(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rel.Path, err)
	}
	if header.Take == lock.TakeIndex {
		return nil, &IndexError{Release: rel}
	}
	root := &Root{Release: rel, Identity: lock.Identity(text), Header: header}
	name := RootName(root.Identity)
	if it, ok := cfg.Store.Find(store.Roots, name); ok {
		root.Path = it.Root()
		return root, nil
	}
	release, err := cfg.Store.Lock(ctx, store.Roots, name)
	if err != nil {
		return nil, err
	}
	defer release()
	if it, ok := cfg.Store.Find(store.Roots, name); ok { // made while this one waited
		root.Path = it.Root()
		return root, nil
	}
	l, err := lock.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rel.Path, err)
	}
	p := puller{cfg: cfg, lock: l}
	if err := p.blobs(ctx); err != nil {
		return nil, fmt.Errorf("pulling %s: %w", rel, err)
	}
	it, err := p.root(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("pulling %s: %w", rel, err)
	}
	root.Path, root.Made = it.Root(), true
	return root, nil
}

// puller brings what one lock needs into the store.
type puller struct {
	cfg  Config
	lock *lock.Lock
	who  string // has what no archive has; "" for whoever took the snapshot
	// files says that package files are needed where their trees are there, too.
	files bool
}

// packages are those that the root filesystem is made of.
func (p *puller) packages() []lock.Package {
	var in []lock.Package
	for _, k := range p.lock.Packages {
		if k.Rootfs != "out" && k.HasFile() {
			in = append(in, k)
		}
	}
	return in
}

// blobs fetches the delta, and the package files whose trees aren't here yet.
func (p *puller) blobs(ctx context.Context) error {
	remote := store.Folder{Dir: p.cfg.Fleet.Blobs()}
	if _, ok := p.cfg.Store.Find(store.Trees, p.lock.Delta.SHA256); !ok && p.lock.Delta.SHA256 != "" {
		if err := p.fromRemote(ctx, remote, p.lock.Delta.Digest(), "the delta"); err != nil {
			return err
		}
	}
	// Only an error needs the manifest, so that it can name a path.
	manifest := image.ManifestDigest(p.lock.Rootfs.Digest)
	if remote.Has(manifest) {
		if err := remote.Fetch(ctx, p.cfg.Store, manifest); err != nil {
			p.cfg.Progress.Note("fetching", err.Error())
		}
	}
	snapshots, err := p.cfg.Fleet.Snapshots()
	if err != nil {
		return err
	}
	var files []archive.File
	for _, k := range p.packages() {
		if _, ok := p.cfg.Store.Find(store.Trees, image.TreeName(k)); ok && !p.files || p.cfg.Store.HasBlob(k.Digest()) {
			continue
		}
		if remote.Has(k.Digest()) || k.Archive == "" {
			if err := p.fromRemote(ctx, remote, k.Digest(), k.Name+" "+k.Version); err != nil {
				return err
			}
			continue
		}
		files = append(files, p.file(k, snapshots))
	}
	return archive.Fetch(ctx, p.cfg.Store, files,
		archive.FetchOptions{Progress: p.cfg.Progress, Pacer: pacer(snapshots, p.lock)})
}

func (p *puller) file(k lock.Package, snapshots []string) archive.File {
	f := archive.File{Name: k.Name + " " + k.Version, Digest: k.Digest(), Size: k.Size}
	for _, a := range p.lock.Archives {
		if a.Name == k.Archive {
			f.URLs = archive.URLs(a, k.Path, append(p.cfg.Fleet.Mirrors(a.URI), archive.SnapshotTrees(a, snapshots)...))
		}
	}
	return f
}

// MissingBlobError says that nothing at hand has a blob which no archive has.
type MissingBlobError struct {
	What   string
	Digest digest.Digest
	Remote string
	who    string // has it; "" for whoever took the snapshot
}

func (e *MissingBlobError) Error() string {
	return fmt.Sprintf("%s (%s) is in no archive, and neither in the store nor in %s", e.What, e.Digest, e.Remote)
}

// Hint says how to go on.
func (e *MissingBlobError) Hint() string {
	return cmp.Or(e.who, "whoever took the snapshot") + " has it: stead push there, then update the fleet here"
}

func (p *puller) fromRemote(ctx context.Context, remote store.Folder, d digest.Digest, what string) error {
	err := remote.Fetch(ctx, p.cfg.Store, d)
	var missing *store.MissingError
	if errors.As(err, &missing) {
		return &MissingBlobError{What: what, Digest: d, Remote: remote.Dir, who: p.who}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if errors.As(err, new(*store.MismatchError)) {
		return &damagedError{err}
	}
	return err
}

// damagedError says that the fleet's copy of a blob isn't what it was.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// Hint says how to go on.
func (e *damagedError) Hint() string {
	return "restore it from the fleet's history (git lfs pull, where that keeps it), or remove it and stead push where the snapshot was taken"
}

// root unpacks what isn't unpacked yet and makes the root filesystem.
func (p *puller) root(ctx context.Context, name string) (store.Item, error) {
	packages := p.packages()
	trees := append([]unpacking{deltaTree(p.lock.Delta)}, packageTrees(packages)...) // the largest first
	if err := unpackAll(ctx, p.cfg, trees, p.again); err != nil {
		return store.Item{}, err
	}
	loaded, err := loadTrees(ctx, p.cfg, trees)
	if err != nil {
		return store.Item{}, err
	}
	p.cfg.Progress.Report(snapshot.Event{Stage: "linking", Item: p.lock.Release.Target})
	pending, err := image.MakeRoot(ctx, p.cfg.Store, p.lock, loaded[1:], loaded[0], name, p.cfg.jobs())
	if err != nil {
		return store.Item{}, err
	}
	if err := p.cfg.Store.Publish(ctx, pending); err != nil {
		return store.Item{}, errors.Join(err, pending.Discard())
	}
	return pending.Item, nil
}

// again fetches a file anew whose copy in the store is damaged.
func (p *puller) again(ctx context.Context, d digest.Digest) error {
	if err := p.cfg.Store.DropBlob(d); err != nil {
		return err
	}
	return p.blobs(ctx)
}

// unpacking is a blob and how to make the tree of it.
type unpacking struct {
	name   string // for people
	digest digest.Digest
	size   int64 // bytes of the blob
	unpack func(context.Context, *store.Store) (*store.Pending, error)
}

func packageTrees(packages []lock.Package) []unpacking {
	trees := make([]unpacking, len(packages))
	for i, k := range packages {
		trees[i] = unpacking{k.Name, k.Digest(), k.Size, func(ctx context.Context, st *store.Store) (*store.Pending, error) {
			return image.Unpack(ctx, st, k)
		}}
	}
	return trees
}

func deltaTree(d lock.Delta) unpacking {
	return unpacking{"the delta", d.Digest(), d.Size, func(ctx context.Context, st *store.Store) (*store.Pending, error) {
		return image.UnpackDelta(ctx, st, d)
	}}
}

// publishBytes is how much is unpacked, counted by the size of the blobs, before it
// is synced to disk and can't be lost any more.
const publishBytes = 12 << 20

// unpackAll makes the trees that the store lacks. again, where given, is asked once
// for a blob that turned out to be damaged.
func unpackAll(ctx context.Context, cfg Config, trees []unpacking, again func(context.Context, digest.Digest) error) error {
	var todo []unpacking
	for _, t := range trees {
		if _, ok := cfg.Store.Find(store.Trees, t.digest.Encoded()); !ok {
			todo = append(todo, t)
		}
	}
	// The largest first: a large one that comes last is waited for alone.
	slices.SortStableFunc(todo, func(a, b unpacking) int { return cmp.Compare(b.size, a.size) })
	u := unpacker{cfg: cfg, again: again, total: int64(len(todo))}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(cfg.jobs())
	var syncing errgroup.Group // beside the others, which need the processor and not the disk
	for _, t := range todo {
		g.Go(func() error {
			enough, err := u.one(gctx, t)
			if enough {
				syncing.Go(func() error { return u.publish(ctx) })
			}
			return err
		})
	}
	err := errors.Join(g.Wait(), syncing.Wait())
	if err == nil {
		err = u.publish(ctx)
	}
	for _, p := range u.pending {
		err = errors.Join(err, p.Discard())
	}
	return err
}

type unpacker struct {
	cfg   Config
	again func(context.Context, digest.Digest) error
	total int64

	mu      sync.Mutex
	pending []*store.Pending
	bytes   int64
	done    int64
	mending sync.Mutex
}

// one makes one tree; enough says that it is time to publish.
func (u *unpacker) one(ctx context.Context, t unpacking) (enough bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	made, err := t.unpack(ctx, u.cfg.Store)
	var damaged *store.MismatchError
	if errors.As(err, &damaged) && u.again != nil {
		u.cfg.Progress.Note("unpacking", fmt.Sprintf("%s in the store is damaged and fetched again", t.name))
		u.mending.Lock()
		err = u.again(ctx, t.digest)
		u.mending.Unlock()
		if err != nil {
			return false, err
		}
		made, err = t.unpack(ctx, u.cfg.Store)
	}
	if err != nil {
		return false, err
	}
	u.mu.Lock()
	u.pending = append(u.pending, made)
	u.bytes += t.size
	u.done++
	done := u.done
	if enough = u.bytes >= publishBytes; enough {
		u.bytes = 0
	}
	u.mu.Unlock()
	u.cfg.Progress.Report(snapshot.Event{Stage: "unpacking", Item: t.name, Done: done, Total: u.total, Unit: "packages"})
	return enough, nil
}

// publish publishes what is pending.
func (u *unpacker) publish(ctx context.Context) error {
	u.mu.Lock()
	batch := u.pending
	u.pending = nil
	u.mu.Unlock()
	err := u.cfg.Store.Publish(ctx, batch...)
	if err != nil {
		for _, p := range batch {
			err = errors.Join(err, p.Discard())
		}
	}
	return err
}

// loadTrees reads the manifests of trees.
func loadTrees(ctx context.Context, cfg Config, trees []unpacking) ([]image.Tree, error) {
	loaded := make([]image.Tree, len(trees))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cfg.jobs())
	for i, t := range trees {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			it, ok := cfg.Store.Find(store.Trees, t.digest.Encoded())
			if !ok {
				return fmt.Errorf("reading the tree of %s: it is not in the store", t.name)
			}
			m, err := it.Manifest()
			if err != nil {
				return fmt.Errorf("reading the tree of %s: %w", t.name, err)
			}
			loaded[i] = image.Tree{Item: it, Manifest: m}
			return nil
		})
	}
	return loaded, g.Wait()
}

// maxJobs bounds the packages that are unpacked at a time: each takes about 10 MB for
// its dictionary and buffers.
const maxJobs = 16

func (c Config) jobs() int {
	if c.Jobs > 0 {
		return c.Jobs
	}
	return min(goruntime.GOMAXPROCS(0), maxJobs)
}
