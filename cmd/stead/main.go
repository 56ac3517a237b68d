// Command stead builds in production's stead: it takes snapshots of production
// hosts, makes them into environments again, and builds in them.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/stead-env/stead/runtime/session"
)

// The collector is left to rest until the heap is worth it, and works to stay under
// memory, in bytes: a host with a million files is read beside all else that the
// machine of whoever takes the snapshot does.
const (
	memory = 200 << 20
	growth = 400 // percent
)

func main() {
	if code, ok := session.Hook(os.Args); ok {
		os.Exit(code)
	}
	debug.SetMemoryLimit(memory)
	debug.SetGCPercent(growth)
	ctx, stop := heeding(context.Background())
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
