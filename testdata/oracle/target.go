package main

import (
	"context"
	"path/filepath"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	hosts "github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

// targetOf is a made host as stead judges for it: by its index, and by its root as that of
// the machine it runs on. Its processor is this machine's, since its loader is asked here.
func targetOf(ctx context.Context, h host, dir string) (indexed, live *artifact.Target, end func() error, err error) {
	cpu, err := processor(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	index, facts, err := indexOf(ctx, h, dir, cpu)
	if err != nil {
		return nil, nil, nil, err
	}
	root, err := system.OpenLive(h.Root, system.LiveOptions{CPU: cpu,
		Packages: func() []system.Package { return index.Facts().Packages },
		Owner: func(path string) string {
			f, _ := index.Find(path)
			return f.Package
		}})
	if err != nil {
		return nil, nil, nil, err
	}
	return &artifact.Target{Name: h.Name, System: index, Host: facts, Facts: index.Facts()},
		&artifact.Target{Name: h.Name, System: root, Host: facts, Facts: root.Facts()}, root.Close, nil
}

// here is a folder on a machine with a processor.
type here struct {
	*hosts.Dir
	cpu string
}

func (h here) Live(context.Context) (snapshot.Live, error) { return snapshot.Live{CPU: h.cpu}, nil }

// indexOf makes a host's index as a check for it does; dir is for what that takes.
func indexOf(ctx context.Context, h host, dir, cpu string) (*system.Index, lock.Host, error) {
	st, err := store.Open(dir)
	if err != nil {
		return nil, lock.Host{}, err
	}
	fleet, err := envs.OpenFleet(filepath.Join(dir, "fleet")) // which isn't there
	if err != nil {
		return nil, lock.Host{}, err
	}
	rules, err := scrub.New(nil, nil)
	if err != nil {
		return nil, lock.Host{}, err
	}
	root, err := hosts.Folder(h.Root)
	if err != nil {
		return nil, lock.Host{}, err
	}
	defer root.Close()
	return envs.IndexHost(ctx, envs.Config{Store: st, Fleet: fleet}, here{root, cpu},
		envs.SnapshotOptions{Address: h.Root, Readers: pkgdb.Readers, Rules: rules})
}

func processor(ctx context.Context) (level string, err error) {
	machine, err := hosts.Folder("/")
	if err != nil {
		return "", err
	}
	defer machine.Close()
	live, err := machine.Live(ctx)
	return live.CPU, err
}
