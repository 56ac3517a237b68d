package rootless

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/session"
)

// pass hands what this process is sent to the one in the namespace. What is typed at a
// terminal reaches both by itself.
func pass(signals *session.Signals, to *os.Process) {
	signals.Forward(func(sig os.Signal) {
		if (sig == unix.SIGINT || sig == unix.SIGQUIT) && foreground() {
			return
		}
		to.Signal(sig) // an error: it is gone
	}, session.Grace, func() {}) // how long it takes to end is its own affair
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
