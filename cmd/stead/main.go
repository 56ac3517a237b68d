// Command stead builds in production's stead: it takes snapshots of production
// hosts, makes them into environments again, and builds in them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// The collector is left to rest until the heap is worth it, and works to stay under
// memory, in bytes: a host with a million files is read beside all else that the
// machine of whoever takes the snapshot does.
const (
	memory = 200 << 20
	growth = 400 // percent
)

func main() {
	debug.SetMemoryLimit(memory)
	debug.SetGCPercent(growth)
	// SIGHUP too: what was started in a terminal dies with it, unless under nohup(1).
	var heed []os.Signal
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			heed = append(heed, sig)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	if len(heed) > 0 {
		ctx, stop = signal.NotifyContext(ctx, heed...)
	}
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
