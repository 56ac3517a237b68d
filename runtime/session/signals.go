package session

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
	Grace         = 10 * time.Second
	GraceTerminal = time.Second
)

// Signals collects the signals that this process gets on behalf of a session.
type Signals struct {
	ch   chan os.Signal
	done chan struct{}
}

// CatchSignals starts collecting. What was ignored when this process started, as
// under nohup(1), stays so.
func CatchSignals() *Signals {
	s := &Signals{ch: make(chan os.Signal, 16), done: make(chan struct{})}
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		if !signal.Ignored(sig) {
			signal.Notify(s.ch, sig)
		}
	}
	return s
}

// Forward hands what comes in to send, and calls end when a signal to go was not
// heeded after that time. It returns at once.
func (s *Signals) Forward(send func(os.Signal), after time.Duration, end func()) {
	go func() {
		var late <-chan time.Time
		for {
			select {
			case <-s.done:
				return
			case <-late:
				end()
			case sig := <-s.ch:
				send(sig)
				if sig == unix.SIGTERM || sig == unix.SIGHUP {
					late = time.After(after)
				}
			}
		}
	}()
}

// Add puts a signal among those that came in.
func (s *Signals) Add(sig os.Signal) {
	select {
	case s.ch <- sig:
	case <-s.done:
	}
}

// Stop ends collecting and forwarding.
func (s *Signals) Stop() {
	signal.Stop(s.ch)
	close(s.done)
}
