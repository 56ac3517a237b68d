package main

import (
	"context"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
	hosts "github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

// targetOf is a made host as stead judges for it. Its processor is this machine's, since
// its loader is asked here.
func targetOf(ctx context.Context, h host) (*artifact.Target, func() error, error) {
	db, err := database(ctx, h.Root)
	if err != nil {
		return nil, nil, err
	}
	facts := lock.Host{Architecture: db.Architecture, Libc: db.Libc}
	if facts.CPU, err = processor(ctx); err != nil {
		return nil, nil, err
	}
	packages, owner := packagesOf(db)
	live, err := system.OpenLive(h.Root, system.LiveOptions{CPU: facts.CPU, Packages: func() []system.Package { return packages },
		Owner: owner})
	if err != nil {
		return nil, nil, err
	}
	return &artifact.Target{Name: h.Name, System: live, Host: facts, Facts: live.Facts()}, live.Close, nil
}

func processor(ctx context.Context) (level string, err error) {
	here, err := hosts.Folder("/")
	if err != nil {
		return "", err
	}
	live, err := here.Live(ctx)
	return live.CPU, err
}

func database(ctx context.Context, root string) (*snapshot.Database, error) {
	h, err := hosts.Folder(root)
	if err != nil {
		return nil, err
	}
	return snapshot.ReadDatabase(ctx, h, pkgdb.Readers)
}

// packagesOf are the packages of a database, and who brought a path.
func packagesOf(db *snapshot.Database) (list []system.Package, owner func(path string) string) {
	by := map[string]string{}
	for _, p := range db.Packages {
		pkg := system.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture}
		for line := range strings.Lines(string(p.Control)) {
			if provides, ok := strings.CutPrefix(line, "Provides:"); ok {
				for _, one := range strings.Split(provides, ",") {
					pkg.Provides = append(pkg.Provides, strings.TrimSpace(one))
				}
			}
		}
		list = append(list, pkg)
		for _, file := range p.Files {
			by[strings.TrimPrefix(file, "usr/")] = p.Name // /usr is merged
		}
	}
	return list, func(p string) string {
		return by[strings.TrimPrefix(strings.TrimPrefix(p, "/"), "usr/")]
	}
}
