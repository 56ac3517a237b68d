package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// KeptLayers are what a session consists of: a root, and what was changed in it.
type KeptLayers struct {
	Upper       string // folder of the changes
	Root        *Root
	Entries     store.Manifest // of the root
	MountPoints []string       // in Upper, as runtime.KeptPoints has them
	UserXattrs  bool           // the overlay was mounted in a user namespace
	Live        snapshot.Live  // of the host that the release was taken of
	// Unheld takes from the root's entry at a path, nil for none, what the store can't
	// hold of an entry of Upper.
	Unheld func(root, f *snapshot.File)
}

// Layers makes a session ready for reading; its root is made where it isn't there. The
// root is to be held as long as it is read.
func (k *Kept) Layers(ctx context.Context, cfg Config) (*KeptLayers, error) {
	own := k.st.Owners()
	if own.Name() != k.record.Ids {
		return nil, k.otherIds(own)
	}
	switch added, err := k.tools(); {
	case err != nil:
		return nil, err
	case added != nil:
		return nil, &KeptError{k.Name, "has a project's tools, so that its changes are none to the target alone",
			"stead enter --no-tools --session NAME begins one without"}
	}
	l, err := k.Release().Lock()
	if err != nil {
		return nil, err
	}
	root, err := Pull(ctx, cfg, k.Release())
	if err != nil {
		return nil, err
	}
	layers := &KeptLayers{Upper: filepath.Join(k.Upper(), keptUpper), Root: root, UserXattrs: own.Name() != "",
		Live:   snapshot.Live{Kernel: l.Host.Kernel, CPU: l.Host.CPU},
		Unheld: func(root, f *snapshot.File) { restore(own, root, f) }}
	if l.Kernel != nil {
		layers.Live.KernelVersion, layers.Live.SystemCalls = l.Kernel.Version, l.Kernel.SystemCalls
	}
	if layers.MountPoints, err = runtime.KeptPoints(k.Upper()); err != nil {
		return nil, fmt.Errorf("reading session %s: %w", k.Name, err)
	}
	if it, ok := k.st.Find(store.Roots, RootName(root.Identity)); ok {
		layers.Entries, err = it.Manifest()
	}
	return layers, err
}

// restore takes from a root's manifest what a disk can't hold of a file that was
// copied from that root. A new file is root's where nobody else is known.
func restore(own store.Owners, root, f *snapshot.File) {
	if root == nil {
		if !own.Any() {
			f.UID, f.GID = 0, 0
		}
		return
	}
	if !own.Holds(root.UID, root.GID) {
		f.UID, f.GID = root.UID, root.GID
	}
	if !own.Any() && f.Type == snapshot.Dir && f.Mode == root.Mode|0o700 {
		f.Mode = root.Mode
	}
	for name, value := range root.Xattrs {
		if _, there := f.Xattrs[name]; there || own.HoldsAttribute(name, value) {
			continue
		}
		if f.Xattrs = maps.Clone(f.Xattrs); f.Xattrs == nil {
			f.Xattrs = map[string]string{}
		}
		f.Xattrs[name] = value
	}
}

// KeptChange is a path that a session made, changed or removed.
type KeptChange struct {
	Path   string   `json:"path"`
	Change string   `json:"change"` // Added, Changed or Removed
	Type   string   `json:"type"`   // "file", "folder", "link" …
	What   []string `json:"what,omitempty"`
	Size   int64    `json:"size,omitempty"`  // bytes, of a file that is there
	Below  int      `json:"below,omitempty"` // paths that were removed with a folder
}

// The kinds of changes.
const (
	Added   = "added"
	Changed = "changed"
	Removed = "removed"
)

// typeNames are what people call the kinds of entries.
var typeNames = map[snapshot.Type]string{snapshot.Regular: "file", snapshot.Dir: "folder", snapshot.Symlink: "link",
	snapshot.FIFO: "pipe", snapshot.Socket: "socket", snapshot.Char: "device", snapshot.Block: "device"}

// LayerChanges tells of all paths that may not be as in the root below, a folder before
// what is in it: before is nil for what was added, after for what was removed.
type LayerChanges func(ctx context.Context, fn func(before, after *snapshot.File) error) error

// DiffKept calls fn for each change of a session, a folder before what is in it. Both
// merged, which is root and changes as one host, and changes read KeptLayers.
func DiffKept(ctx context.Context, merged snapshot.Host, changes LayerChanges, fn func(KeptChange) error) error {
	d := &keptDiffer{host: merged, fn: fn}
	err := changes(ctx, func(before, after *snapshot.File) error { return d.see(ctx, before, after) })
	if err == nil {
		err = d.flush()
	}
	return err
}

type keptDiffer struct {
	host snapshot.Host
	fn   func(KeptChange) error
	gone *KeptChange // a removed folder, of which the content follows
}

func (d *keptDiffer) flush() error {
	if d.gone == nil {
		return nil
	}
	c := *d.gone
	d.gone = nil
	return d.fn(c)
}

func (d *keptDiffer) see(ctx context.Context, before, after *snapshot.File) error {
	if d.gone != nil && before != nil && strings.HasPrefix(before.Path, d.gone.Path+"/") {
		if after == nil {
			d.gone.Below++
			return nil
		}
	}
	if err := d.flush(); err != nil {
		return err
	}
	switch {
	case after == nil:
		d.gone = &KeptChange{Path: before.Path, Change: Removed, Type: typeNames[before.Type]}
		return nil
	case before == nil:
		return d.fn(KeptChange{Path: after.Path, Change: Added, Type: typeNames[after.Type], Size: after.Size})
	}
	what, err := d.compare(ctx, *before, *after)
	if err != nil || len(what) == 0 {
		return err
	}
	c := KeptChange{Path: after.Path, Change: Changed, Type: typeNames[after.Type], What: what, Size: after.Size}
	if before.Type == snapshot.Dir && after.Type != snapshot.Dir {
		d.gone = &c // what was in it is gone with it
		return nil
	}
	return d.fn(c)
}

// compare says in what a path differs.
func (d *keptDiffer) compare(ctx context.Context, before, after snapshot.File) (what []string, err error) {
	differs := func(is bool, name string) {
		if is {
			what = append(what, name)
		}
	}
	if before.Type != after.Type {
		return []string{"type: it was a " + typeNames[before.Type]}, nil
	}
	content := before.Size != after.Size
	if before.Type == snapshot.Regular && !content {
		var sum string
		if sum, err = d.sum(ctx, after.Path); err != nil {
			return nil, err
		}
		content = sum != before.Digest
	}
	differs(content, "content")
	differs(before.Target != after.Target, "target")
	if after.Type != snapshot.Symlink {
		differs(before.Mode != after.Mode, "mode")
	}
	differs(before.UID != after.UID || before.GID != after.GID, "owner")
	differs(!maps.Equal(before.Xattrs, after.Xattrs), "attributes")
	if after.Type == snapshot.Regular || after.Type == snapshot.Symlink {
		differs(len(what) == 0 && before.MTime != after.MTime, "time")
	}
	return what, nil
}

func (d *keptDiffer) sum(ctx context.Context, path string) (string, error) {
	h := sha256.New()
	err := d.host.Read(ctx, []string{path}, func(_ string, r io.Reader, err error) error {
		if err == nil {
			_, err = io.Copy(h, r)
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// baseFacts are what is known of the host that a release was taken of, where a session
// on it tells nothing.
func baseFacts(f snapshot.Facts, base lock.Host) snapshot.Facts {
	for _, fact := range []struct {
		to   *string
		from string
	}{{&f.ID, base.ID}, {&f.Version, base.Version}, {&f.Codename, base.Codename}, {&f.Architecture, base.Architecture},
		{&f.Libc, base.Libc}, {&f.Kernel, base.Kernel}, {&f.CPU, base.CPU}, {&f.Umask, base.Umask},
		{&f.Locale, base.Locale}, {&f.Timezone, base.Timezone}} {
		if *fact.to == "" {
			*fact.to = fact.from
		}
	}
	return f
}
