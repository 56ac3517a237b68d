package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// hostIndex makes sources for indexes of hosts: what is read of them stays on this
// machine for as long as it takes, and nothing but digests and records comes of it.
type hostIndex struct {
	cfg      Config
	inv      *snapshot.Inventory
	rules    snapshot.Rules
	contents *contents
	files    store.Manifest
	// stored are files that are as the package brought them whose tree the store has.
	stored map[string]storedFile
}

// storedFile is a file in a tree of the store.
type storedFile struct{ dir, path, digest string }

// UnsentIndexError says that a host can't be indexed, since it gives no contents.
type UnsentIndexError struct{ Path string }

func (e *UnsentIndexError) Error() string {
	return fmt.Sprintf("making an index: the bundle doesn't hold /%s, and an index is made of all programs and libraries", e.Path)
}

// Hint says how to go on.
func (e *UnsentIndexError) Hint() string {
	return "a snapshot of it fetches the packages: stead snapshot bundle:FILE TARGET, of a bundle made at --take minimal or standard"
}

// unread are rules for contents that don't leave a host: none of them is looked into.
type unread struct{ snapshot.Rules }

func (unread) Content(string, io.Reader) (string, error) { return "", nil }
func (u unread) Version() string                         { return "index1:" + u.Rules.Version() }

// newHostIndex begins with the inventory of a host, which was taken under the rules for
// all that may leave. The caller closes its contents.
func newHostIndex(cfg Config, host snapshot.Host, inv *snapshot.Inventory, rules snapshot.Rules, address string) (*hostIndex, error) {
	c, err := newContents(cfg, host, unread{rules}, "index of "+address)
	if err != nil {
		return nil, err
	}
	return &hostIndex{cfg: cfg, inv: inv, rules: rules, contents: c, stored: map[string]storedFile{}}, nil
}

// source reads what an index is made with. pinned are packages whose trees may be in the
// store; known tells which objects needn't be at hand. What can't be read is missing from
// the index, and noted.
func (h *hostIndex) source(ctx context.Context, pinned []lock.Package, known func(sum string) bool) (system.Source, error) {
	wanted, err := h.wanted()
	if err != nil {
		return system.Source{}, err
	}
	if err := h.findStored(ctx, pinned, wanted); err != nil {
		return system.Source{}, err
	}
	if err := h.read(ctx, wanted, known); err != nil {
		return system.Source{}, err
	}
	packages, owner := installed(h.inv.Database, h.inv.Links, h.files)
	return system.Source{Files: h.files, Packages: packages, Owner: owner, Open: h.open}, nil
}

// wanted are the files that an index is made with, but for those that may not leave, and
// those whose path holds a secret.
func (h *hostIndex) wanted() (store.Manifest, error) {
	var files store.Manifest
	names := &snapshotter{opts: SnapshotOptions{Rules: h.rules}}
	for _, e := range h.inv.Entries {
		if e.Class == snapshot.Secret || e.Class == snapshot.Noise || !system.Wants(e.File) || isData(e.File) {
			continue
		}
		_, reason, err := names.name(e.Path)
		if err == nil && reason == "" {
			_, reason, err = names.name(e.Target)
		}
		if err != nil {
			return nil, err
		}
		if reason == "" {
			files = append(files, e.File)
		}
	}
	return files, nil
}

// isData reports whether a file is too large to be read only to learn that it is no
// object: it may not be executed, and isn't named as a library.
func isData(f snapshot.File) bool {
	return f.Type == snapshot.Regular && f.Size > maxSmall/2 && f.Mode&0o111 == 0 && !strings.Contains(path.Base(f.Path), ".so")
}

// findStored finds files that are as their packages brought them, by size and time as in
// any snapshot, in the trees of the store: they aren't read from the host.
func (h *hostIndex) findStored(ctx context.Context, pinned []lock.Package, wanted store.Manifest) error {
	trees := map[[3]string]string{}
	for _, p := range pinned {
		if p.HasFile() {
			trees[[3]string{p.Name, p.Version, p.Architecture}] = p.SHA256
		}
	}
	links := snapshot.NewLinks(h.inv.Links)
	shared := map[string]bool{}
	for _, p := range h.inv.Database.Packages {
		sum := trees[[3]string{p.Name, p.Version, p.Architecture}]
		tree, ok := h.cfg.Store.Find(store.Trees, sum)
		if sum == "" || !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		manifest, err := tree.Manifest()
		if err != nil {
			continue // the host has it, too
		}
		for _, f := range manifest {
			at := links.Locate(f.Path)
			own, ok := wanted.Lookup(at)
			if !ok || f.Type != snapshot.Regular || own.Type != f.Type {
				continue
			}
			if _, again := h.stored[at]; again || own.Size != f.Size || own.MTime != f.MTime {
				shared[at] = true
			}
			h.stored[at] = storedFile{tree.Root(), f.Path, f.Digest}
		}
	}
	maps.DeleteFunc(h.stored, func(p string, _ storedFile) bool { return shared[p] })
	return nil
}

// read learns the digests of files, and keeps copies of those that aren't known.
func (h *hostIndex) read(ctx context.Context, wanted store.Manifest, known func(sum string) bool) error {
	var own, open store.Manifest
	for _, f := range wanted {
		if _, ok := h.stored[f.Path]; !ok {
			own = append(own, f)
		}
	}
	if err := h.contents.read(ctx, own); err != nil {
		return err
	}
	for _, f := range wanted {
		if s, ok := h.stored[f.Path]; ok {
			f.Digest = s.digest
		} else if f.Type == snapshot.Regular {
			sum, withheld, err := h.contents.of(f)
			if withheld != "" {
				continue // by whoever made a bundle of the host
			}
			if errors.As(err, new(*snapshot.UnsentError)) {
				return &UnsentIndexError{f.Path}
			}
			if err != nil {
				h.inv.Unreadable = append(h.inv.Unreadable, snapshot.Left{Path: f.Path, Reason: err.Error(), Files: 1, Bytes: f.Size})
				continue
			}
			if f.Digest = sum; !known(sum) {
				open = append(open, f)
			}
		}
		h.files = append(h.files, f)
	}
	return h.contents.gather(ctx, open, nil, true)
}

func (h *hostIndex) open(ctx context.Context, f snapshot.File) (system.Content, error) {
	if s, ok := h.stored[f.Path]; ok {
		return os.OpenInRoot(s.dir, s.path)
	}
	return h.contents.reopen(ctx, f)
}

// close drops what was read; what was learned stays for the next time where keep says so.
func (h *hostIndex) close(keep bool) error {
	var err error
	if keep {
		err = h.contents.remember()
	}
	return errors.Join(err, h.contents.close())
}

// IndexHost makes the index of a host as it is now, and tells its facts. Nothing of it is
// kept but what spares reading files again. Options are as for a snapshot, with the rules
// for all that may leave a host.
func IndexHost(ctx context.Context, cfg Config, host snapshot.Host, opts SnapshotOptions) (*system.Index, lock.Host, error) {
	inv, err := snapshot.Take(ctx, host, opts.Readers, opts.Rules, cfg.Progress)
	if err != nil {
		return nil, lock.Host{}, err
	}
	h, err := newHostIndex(cfg, host, inv, opts.Rules, opts.Address)
	if err != nil {
		return nil, lock.Host{}, err
	}
	index, err := h.index(ctx)
	err = errors.Join(err, h.close(err == nil))
	return index, hostFacts(inv.Facts), err
}

// index makes an index that is nowhere but in memory.
func (h *hostIndex) index(ctx context.Context) (*system.Index, error) {
	known, err := knownObjects(h.cfg, "")
	if err != nil {
		return nil, err
	}
	src, err := h.source(ctx, known.packages(), known.has)
	if err != nil {
		return nil, err
	}
	chunks := map[string][]byte{}
	text, err := buildIndex(ctx, h.cfg, src, known, func(sum string, chunk []byte) error {
		chunks[sum] = chunk
		return nil
	})
	if err != nil {
		return nil, err
	}
	return system.Open(text, h.inv.Facts.CPU, func(sum string) ([]byte, error) { return chunks[sum], nil })
}
