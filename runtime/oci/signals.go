package oci

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// How long a command may take to end after a signal that asks for it, before all
// of the session is killed.
const (
	graceTerm   = 10 * time.Second
	graceHangup = time.Second
)

// signals collects the signals that this process gets on behalf of a session.
type signals struct {
	ch   chan os.Signal
	done chan struct{}
}

// catchSignals starts collecting. What was ignored when this process started, as
// under nohup(1), stays so.
func catchSignals() *signals {
	s := &signals{ch: make(chan os.Signal, 16), done: make(chan struct{})}
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		if !signal.Ignored(sig) {
			signal.Notify(s.ch, sig)
		}
	}
	return s
}

// forward sends what comes in to the process, and calls end when the process has
// not heeded a signal to go.
func (s *signals) forward(to *os.Process, end func()) {
	go func() {
		var late <-chan time.Time
		for {
			select {
			case <-s.done:
				return
			case <-late:
				end()
			case sig := <-s.ch:
				to.Signal(sig) // an error: it is gone
				switch sig {
				case unix.SIGTERM:
					late = time.After(graceTerm)
				case unix.SIGHUP:
					late = time.After(graceHangup)
				}
			}
		}
	}()
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.done)
}
