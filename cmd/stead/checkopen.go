package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

// isAddress tells a host from a target, whose name has no slash in it.
func isAddress(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	return strings.Contains(s, "/") || s == "." || s == ".." || ok && schemes[scheme] != nil
}

// openCheck opens what a check needs. For folders of this machine that is neither a fleet
// nor a store: the program may have been carried to where there are none.
func (g *globals) openCheck(ctx context.Context, f checkFlags) (w *work, systems []*envs.Judged, err error) {
	near := len(f.places) > 0 && !slices.ContainsFunc(f.places, func(p string) bool { return !isAddress(p) || !isFolder(p) })
	if near {
		w = &work{meter: newMeter(g.stderr, g.progress)}
		w.config.Progress = w.meter.event
		w.project, err = envs.OpenProject(".")
	} else if w, err = g.open(false); err == nil {
		err = w.useStore()
	}
	if err != nil {
		return nil, nil, err
	}
	places := f.places
	if len(places) == 0 {
		if places, err = w.everyTarget(f.all); err != nil {
			return w, nil, err
		}
	}
	for _, place := range places {
		j, err := w.openJudged(ctx, place, f.locked)
		if err != nil {
			return w, nil, err
		}
		if !slices.ContainsFunc(systems, func(other *envs.Judged) bool { return other.Name == j.Name }) {
			systems = append(systems, j)
		}
	}
	return w, systems, nil
}

// useStore opens this machine's store where there is one. Nothing needs to be in it.
func (w *work) useStore() error {
	dir, err := envs.StoreDir()
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	w.config.Store, err = store.Open(dir)
	return err
}

// makeStore opens the store for what is read of a host, and makes it where it isn't there.
func (w *work) makeStore() error {
	if w.config.Store != nil {
		return nil
	}
	dir, err := envs.StoreDir()
	if err == nil {
		w.config.Store, err = store.Open(dir)
	}
	return err
}

// everyTarget are the project's targets; where it names none, and all are asked for, the
// fleet's.
func (w *work) everyTarget(all bool) ([]string, error) {
	if len(w.project.Config.Targets) > 0 {
		return w.project.Config.Targets, nil
	}
	if !all {
		return nil, &hintError{usagef("no target given, and the project at %s names none", w.project.Dir),
			"--for TARGET, --for / for this machine, or --all for every target of the fleet"}
	}
	targets, err := w.fleet.Targets()
	if err == nil && len(targets) == 0 {
		err = fmt.Errorf("no targets in %s yet", w.fleet.Dir())
	}
	return targets, err
}

// openJudged opens a target or host to judge for.
func (w *work) openJudged(ctx context.Context, place string, locked bool) (*envs.Judged, error) {
	if isAddress(place) {
		return w.openJudgedHost(ctx, place)
	}
	refs, err := w.project.Wanted([]string{place})
	if err != nil {
		return nil, asUsage(err)
	}
	releases, err := w.project.Chosen(w.fleet, refs, locked)
	if err != nil {
		return nil, err
	}
	return envs.JudgeRelease(ctx, w.config, releases[0], indexOptions)
}

// indexOptions are how an index is made of an env that is in the store.
var indexOptions = envs.IndexOptions{Readers: pkgdb.Readers,
	Folder: func(dir string) (snapshot.Host, error) { return host.Folder(dir) }}

// openJudgedHost opens a host to judge for by its address. A folder is read as files ask
// for it, all others as a whole.
func (w *work) openJudgedHost(ctx context.Context, address string) (*envs.Judged, error) {
	if isFolder(address) {
		return openJudgedFolder(ctx, address)
	}
	if err := w.makeStore(); err != nil {
		return nil, err
	}
	h, address, err := openHost(ctx, address, w)
	if err != nil {
		return nil, err
	}
	defer h.Close() //nolint:errcheck // it was only read
	if _, ok := h.(*listHost); ok {
		return nil, &hintError{fmt.Errorf("judging for %s: a list names packages, and has no file of theirs", address),
			"stead snapshot " + address + " TARGET makes a release of it"}
	}
	rules, err := rulesAt("", nil, nil)
	if err != nil {
		return nil, err
	}
	j, err := envs.JudgeHost(ctx, w.config, h, envs.SnapshotOptions{Address: address, Readers: pkgdb.Readers, Rules: rules,
		Architecture: architectureOf(h), Wire: strings.HasPrefix(address, "ssh:")})
	if err != nil {
		return nil, err
	}
	return j, finish(h)
}

func openJudgedFolder(ctx context.Context, address string) (*envs.Judged, error) {
	dir, err := filepath.Abs(address)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return nil, &hintError{fmt.Errorf("opening %s: it is no folder of a root", address), "for a target give its name: --for acme"}
	}
	facts := envs.FolderFacts{Database: func() (*snapshot.Database, error) {
		h, err := host.Folder(dir)
		if err != nil {
			return nil, err
		}
		defer h.Close() //nolint:errcheck // it was only read
		return snapshot.ReadDatabase(ctx, h, pkgdb.Readers)
	}}
	if dir == "/" {
		facts.Kernel, facts.CPU = host.Machine()
	}
	return envs.JudgeFolder(dir, facts)
}
