package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/rootless"
)

// engineAuto leaves the choice to what this machine allows.
const engineAuto = "auto"

// engines are all there are, the default first.
var engines = []struct {
	name string
	make func() runtime.Engine
}{
	{"embedded", func() runtime.Engine { return oci.New("") }},
}

// engineFlag adds --engine.
func engineFlag(flags *pflag.FlagSet, name *string) {
	flags.StringVar(name, "engine", "", "engine: "+strings.Join(engineNames(), ", ")+" (default: $STEAD_ENGINE, or auto)")
}

func engineNames() []string {
	names := []string{engineAuto}
	for _, e := range engines {
		names = append(names, e.name)
	}
	return names
}

// namedEngine is the name that counts: the flag's, the environment's, auto.
func namedEngine(flag string) (string, error) {
	for _, from := range []struct{ what, name string }{
		{"--engine", flag}, {"$STEAD_ENGINE", os.Getenv("STEAD_ENGINE")},
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
// lacks shows when it is used.
func newEngine(ctx context.Context, flag string) (runtime.Engine, error) {
	name, err := namedEngine(flag)
	if err != nil {
		return nil, err
	}
	for _, e := range engines {
		if e.name == name {
			engine := e.make()
			return engine, engine.Check(ctx)
		}
	}
	engine := engines[0].make()
	if !rootless.Needed() {
		return engine, nil
	}
	return engine, engine.Check(ctx)
}
