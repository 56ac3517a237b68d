package main

import (
	"context"
	"errors"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot/host"
)

// sessionHost is a named session, taken for the host that it stands for. Nobody is in
// it as long as it is open.
type sessionHost struct {
	*host.Overlay
	kept  *envs.Kept
	letGo func() // of the root
}

// openSession opens session:NAME.
func openSession(ctx context.Context, name string, w *work) (openedHost, string, error) {
	h, err := openKept(ctx, name, w)
	if err != nil {
		return nil, "", asUsage(err)
	}
	return h, "session:" + name, nil
}

func openKept(ctx context.Context, name string, w *work) (*sessionHost, error) {
	kept, err := envs.ReadKept(w.config.Store, name)
	if err != nil {
		return nil, err
	}
	h := &sessionHost{kept: kept, letGo: func() {}}
	layers, err := kept.Layers(ctx, w.config)
	if err == nil {
		h.letGo, err = envs.Hold(layers.Root)
	}
	if err == nil {
		h.Overlay, err = host.OpenOverlay(host.Layers{Upper: layers.Upper, Lower: layers.Root.Path, Entries: layers.Entries,
			MountPoints: layers.MountPoints, UserXattrs: layers.UserXattrs, Live: layers.Live, Unheld: layers.Unheld})
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close lets go of the session and its root.
func (h *sessionHost) Close() error {
	var err error
	if h.Overlay != nil {
		err = h.Overlay.Close()
	}
	if h.letGo != nil {
		h.letGo()
	}
	return errors.Join(err, h.kept.Close(true))
}

// inherit gives a target of which there is nothing yet the rules that the session's
// release was made by.
func (h *sessionHost) inherit(f *envs.Fleet, known envs.Target, target string) (envs.Target, error) {
	base := h.kept.Release()
	if base.Target == target {
		return known, nil
	}
	releases, err := f.Releases(target)
	if err != nil || len(releases) > 0 {
		return known, err
	}
	rules, err := f.Target(base.Target)
	known.Keep, known.Drop, known.Take = union(known.Keep, rules.Keep), union(known.Drop, rules.Drop), rules.Take
	return known, err
}
