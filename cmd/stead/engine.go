package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/chroot"
	"github.com/stead-env/stead/runtime/containerd"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/session"
)

// engineAuto leaves the choice to what this machine allows.
const engineAuto = "auto"

// engines are all there are, the default first.
var engines = []struct {
	name string
	make func(user envs.UserConfig) runtime.Engine
}{
	{"embedded", func(envs.UserConfig) runtime.Engine { return oci.New("") }},
	{"containerd", func(user envs.UserConfig) runtime.Engine { return newContainerd(user) }},
	{"chroot", func(envs.UserConfig) runtime.Engine { return chroot.New() }},
}

// newContainerd is the engine over the daemon that the environment names, or else the
// user's configuration.
func newContainerd(user envs.UserConfig) *containerd.Engine {
	return containerd.New(containerd.Options{
		Address:     cmp.Or(os.Getenv("CONTAINERD_ADDRESS"), user.Containerd.Address),
		Namespace:   cmp.Or(os.Getenv("CONTAINERD_NAMESPACE"), user.Containerd.Namespace),
		Snapshotter: cmp.Or(os.Getenv("CONTAINERD_SNAPSHOTTER"), user.Containerd.Snapshotter),
	})
}

// engineFlag adds --engine.
func engineFlag(flags *pflag.FlagSet, name *string) {
	flags.StringVar(name, "engine", "", "engine: "+strings.Join(engineNames(), ", ")+" (default: $STEAD_ENGINE, your configuration's, or auto)")
}

func engineNames() []string {
	names := []string{engineAuto}
	for _, e := range engines {
		names = append(names, e.name)
	}
	return names
}

// namedEngine is the name that counts: the flag's, the environment's, that of the
// user's configuration, auto.
func namedEngine(user envs.UserConfig, flag string) (string, error) {
	for _, from := range []struct{ what, name string }{
		{"--engine", flag}, {"$STEAD_ENGINE", os.Getenv("STEAD_ENGINE")}, {"your configuration", user.Engine},
	} {
		if from.name == "" {
			continue
		}
		if !slices.Contains(engineNames(), from.name) {
			return "", usagef("%s: there is no engine %q: there are %s", from.what, from.name, strings.Join(engineNames(), ", "))
		}
		return from.name, nil
	}
	return engineAuto, nil
}

// newEngine is the engine that --engine names, or else the one to take here. Who
// can't use it at all is told before an env is fetched and made; what else it
// lacks shows when it is used. shell says that people will work in it.
func (g *globals) newEngine(ctx context.Context, user envs.UserConfig, flag string, shell bool) (runtime.Engine, error) {
	name, err := namedEngine(user, flag)
	if err != nil {
		return nil, err
	}
	for _, e := range engines {
		if e.name == name {
			engine := e.make(user)
			return engine, engine.Check(ctx)
		}
	}
	return g.autoEngine(ctx, user, shell)
}

// autoEngine is the embedded engine wherever it could work. Where a container
// around this process allows neither mounts nor user namespaces there is a
// chroot, which isolates less: so much less that nobody gets to work in it
// without having asked for it.
func (g *globals) autoEngine(ctx context.Context, user envs.UserConfig, shell bool) (runtime.Engine, error) {
	embedded := engines[0].make(user)
	if session.OnThread(session.PrivateMounts) == nil {
		return embedded, nil // what else it needs shows when it is used
	}
	cause := embedded.Check(ctx)
	if cause != nil && g.noNamespace != nil {
		cause = g.noNamespace
	}
	instead := chroot.New()
	if cause == nil || instead.Check(ctx) != nil {
		return embedded, cause
	}
	if shell {
		return nil, &hintError{cause, "stead enter --engine chroot works here, with no isolation but that of files"}
	}
	fmt.Fprintln(g.stderr, "note: no mounts and no user namespaces are allowed here: taking the chroot engine, which isolates files, "+
		"but neither processes nor the network")
	return instead, nil
}

// sweep clears what killed sessions left, whichever engine they were of that needs
// nothing but this process for it.
func (g *globals) sweep(ctx context.Context, engine runtime.Engine, scratch string) {
	list := []runtime.Engine{engine}
	if other := chroot.New(); other.Name() != engine.Name() {
		list = append(list, other)
	}
	for _, e := range list {
		if err := e.Sweep(ctx, scratch); err != nil {
			fmt.Fprintf(g.stderr, "clearing what a killed session left: %v\n", err)
		}
	}
}
