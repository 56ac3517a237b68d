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

// memory is what the collector works to stay under, in bytes: a host with a million
// files is read on the machine of whoever takes the snapshot, beside all else.
const memory = 200 << 20

func main() {
	debug.SetMemoryLimit(memory)
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
