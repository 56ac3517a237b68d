package rootless

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// signals passes what this process is sent to the one in the namespace.
type signals struct {
	ch   chan os.Signal
	done chan struct{}
}

// catch starts collecting. What was ignored when this process started stays so.
func catch() *signals {
	s := &signals{ch: make(chan os.Signal, 16), done: make(chan struct{})}
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		if !signal.Ignored(sig) {
			signal.Notify(s.ch, sig)
		}
	}
	return s
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.done)
}

func (s *signals) forward(to *os.Process) {
	go func() {
		for {
			select {
			case <-s.done:
				return
			case sig := <-s.ch:
				if (sig == unix.SIGINT || sig == unix.SIGQUIT) && foreground() {
					continue // a key: the terminal sent it to both
				}
				to.Signal(sig) // an error: it is gone
			}
		}
	}()
}

// foreground reports whether what is typed at a terminal reaches this process.
func foreground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// endLike returns the exit code of an ended process, or ends this one by the signal
// that ended it.
func endLike(state *os.ProcessState) int {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return state.ExitCode()
	}
	sig := status.Signal()
	switch sig {
	case unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGHUP: // Go makes a crash of its own of others
		signal.Reset(sig)
		unix.Kill(os.Getpid(), sig)
		time.Sleep(time.Second) // it comes at once
	}
	return 128 + int(sig)
}
