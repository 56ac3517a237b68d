package oci

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// How long a command may take to end after SIGTERM or SIGHUP, before all of the
// session is killed: as long as container engines give it, but at a terminal,
// where nobody is left to read and shells heed no SIGTERM.
const (
	grace         = 10 * time.Second
	graceTerminal = time.Second
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
// not heeded a signal to go after that time.
func (s *signals) forward(to *os.Process, after time.Duration, end func()) {
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
				if sig == unix.SIGTERM || sig == unix.SIGHUP {
					late = time.After(after)
				}
			}
		}
	}()
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.done)
}
