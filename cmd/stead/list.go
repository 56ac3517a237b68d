package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

// listFlags are snapshot's for hosts of which there is only a list.
type listFlags struct{ archives, without []string }

func (f *listFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.archives, "archive", nil,
		"for list:FILE, a line of sources.list: 'deb http://mirror.example/debian bullseye main'")
	flags.StringArrayVar(&f.without, "without", nil, "for list:FILE, leave this package out")
}

// listHost is a host of which there is only a list of its packages; none of the
// methods of a host can be called.
type listHost struct {
	openedHost
	list *snapshot.Database
}

// Close does nothing: the list was read as a whole.
func (*listHost) Close() error { return nil }

func openList(_ context.Context, file string, _ *work) (openedHost, string, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, "", err
	}
	f, err := os.Open(abs)
	if err != nil {
		return nil, "", fmt.Errorf("opening list: %w", err)
	}
	defer f.Close()
	list, err := pkgdb.DpkgList(f)
	if err != nil {
		return nil, "", fmt.Errorf("reading list %s: %w", file, err)
	}
	return &listHost{list: list}, "list:" + abs, nil
}

// takeSnapshot makes a release of an opened host.
func takeSnapshot(ctx context.Context, w *work, h openedHost, f snapshotFlags, opts envs.SnapshotOptions) (*envs.SnapshotResult, error) {
	l, ok := h.(*listHost)
	switch {
	case ok:
		return envs.SnapshotList(ctx, w.config, l.list, envs.ListOptions{SnapshotOptions: opts,
			Archives: f.list.archives, Without: f.list.without, Again: len(f.keep)+len(f.drop) > 0, Engine: oci.New(""),
			Folder: func(dir string) (snapshot.Host, error) { return host.Folder(dir) }})
	case len(f.list.archives)+len(f.list.without) > 0:
		return nil, usagef("--archive and --without are for list:FILE: a host names its archives itself")
	}
	if s, ok := h.(*sessionHost); ok {
		base := s.kept.Release()
		opts.Base = &base
	}
	return envs.Snapshot(ctx, w.config, h, opts)
}

// printListChanges tells what a list has otherwise than the release before.
func printListChanges(g *globals, changes []envs.Change) {
	for i, c := range changes {
		if i == 12 {
			fmt.Fprintf(g.stderr, "… and %d more\n", len(changes)-i)
			return
		}
		switch {
		case c.Before == "":
			fmt.Fprintf(g.stderr, "added %s %s\n", clean(c.Name), clean(c.After))
		case c.After == "":
			fmt.Fprintf(g.stderr, "removed %s %s\n", clean(c.Name), clean(c.Before))
		default:
			fmt.Fprintf(g.stderr, "changed %s %s → %s\n", clean(c.Name), clean(c.Before), clean(c.After))
		}
	}
}
