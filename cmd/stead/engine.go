package main

import (
	"context"
	"os"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/oci"
)

// newEngine is the engine of this machine. Who can't use it at all is told before
// an env is fetched and made; what else it lacks shows when it is used.
func newEngine(ctx context.Context) (runtime.Engine, error) {
	engine := oci.New("")
	if os.Geteuid() == 0 {
		return engine, nil
	}
	return engine, engine.Check(ctx)
}
