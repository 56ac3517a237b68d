package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// heeding ends the context at a signal. SIGHUP is one too: what was started in a
// terminal dies with it, unless under nohup(1).
func heeding(ctx context.Context) (context.Context, context.CancelFunc) {
	var heed []os.Signal
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			heed = append(heed, sig)
		}
	}
	if len(heed) == 0 {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, heed...)
}
