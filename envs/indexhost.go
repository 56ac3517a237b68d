package envs

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	wire     bool
	contents *contents
	files    store.Manifest
}

// UnsentIndexError says that a host can't be indexed, since it gives no contents.
type UnsentIndexError struct{ Path string }

func (e *UnsentIndexError) Error() string {
	return fmt.Sprintf("making an index: the bundle doesn't hold /%s, and an index is made of all programs and libraries", e.Path)
}

// Hint says how to go on.
func (e *UnsentIndexError) Hint() string {
	return "stead snapshot of a bundle that was made at --take minimal or standard makes a release with an index"
}

// unread are rules for contents that don't leave a host: none of them is looked into.
type unread struct{ snapshot.Rules }

func (unread) Content(string, io.Reader) (string, error) { return "", nil }
func (u unread) Version() string                         { return "index1:" + u.Rules.Version() }

// newHostIndex begins with the inventory of a host, which was taken under the rules for
// all that may leave. The caller closes its contents.
func newHostIndex(cfg Config, host snapshot.Host, inv *snapshot.Inventory, rules snapshot.Rules, address string, wire bool) (*hostIndex, error) {
	c, err := newContents(cfg, host, unread{rules}, "index of "+address)
	if err != nil {
		return nil, err
	}
	return &hostIndex{cfg: cfg, inv: inv, rules: rules, wire: wire, contents: c}, nil
}

// source reads what an index is made with. known tells which objects don't have to be
// kept; what can't be read is missing from the index, and noted.
func (h *hostIndex) source(ctx context.Context, known func(sum string) bool) (system.Source, error) {
	var wanted store.Manifest
	named := &snapshotter{opts: SnapshotOptions{Rules: h.rules}}
	for _, e := range h.inv.Entries {
		if e.Class == snapshot.Secret || e.Class == snapshot.Noise || !system.Wants(e.File) {
			continue
		}
		reason := ""
		for _, text := range []string{e.Path, e.Target} {
			if reason == "" {
				var err error
				if _, reason, err = named.name(text); err != nil {
					return system.Source{}, err
				}
			}
		}
		if reason == "" {
			wanted = append(wanted, e.File)
		}
	}
	if err := h.read(ctx, wanted, known); err != nil {
		return system.Source{}, err
	}
	packages, owner := installed(h.inv.Database, h.inv.Links, h.files)
	return system.Source{Files: h.files, Packages: packages, Owner: owner, Open: h.open}, nil
}

// read learns the digests of files, and keeps copies of those that aren't known.
func (h *hostIndex) read(ctx context.Context, wanted store.Manifest, known func(sum string) bool) error {
	if err := h.contents.read(ctx, wanted); err != nil {
		return err
	}
	var open store.Manifest
	for _, f := range wanted {
		if f.Type == snapshot.Regular {
			sum, _, err := h.contents.of(f)
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
	return h.contents.gather(ctx, open, nil, h.wire)
}

func (h *hostIndex) open(ctx context.Context, f snapshot.File) (system.Content, error) {
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
	h, err := newHostIndex(cfg, host, inv, opts.Rules, opts.Address, opts.Wire)
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
	src, err := h.source(ctx, known.has)
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
