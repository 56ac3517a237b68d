package containerd

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/fifo"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/stead-env/stead/runtime"
)

// streams connects a session's standard streams with its task through named pipes:
// the daemon's shim, which is no child of this process, has their other ends. It
// copies each by itself, so that what a command writes to both outputs arrives whole,
// but not always in the order between the two.
type streams struct {
	stdin, stdout, stderr string // paths of the pipes

	in      io.Reader
	input   io.WriteCloser
	pipes   []io.Closer
	outputs sync.WaitGroup
	broken  chan struct{} // what a command wrote can't be written on
	done    chan struct{}
	tty     *os.File // the terminal that drives the session's
	saved   *term.State
}

// control is what streams ask of a running session.
type control struct {
	closeInput func()
	resize     func(rows, columns uint16)
	signal     func(unix.Signal)
	hangUp     func()
}

// openStreams makes the pipes in dir, and copies what comes out of them from now on.
func openStreams(ctx context.Context, dir string, stdio runtime.Stdio, terminal bool) (*streams, error) {
	s := &streams{in: stdio.In, broken: make(chan struct{}, 2), done: make(chan struct{})}
	if f, ok := stdio.In.(*os.File); ok && terminal {
		s.tty = f
	}
	if stdio.In != nil {
		s.stdin = filepath.Join(dir, "in")
		var err error
		if s.input, err = s.open(ctx, s.stdin, unix.O_WRONLY); err != nil {
			return s, err
		}
	}
	var mu sync.Mutex
	for _, out := range []struct {
		w    io.Writer
		path *string
		name string
	}{{stdio.Out, &s.stdout, "out"}, {stdio.Err, &s.stderr, "err"}} {
		if terminal && out.name == "err" {
			continue
		}
		if out.w == nil {
			*out.path = os.DevNull // the shim takes all or none
			continue
		}
		*out.path = filepath.Join(dir, out.name)
		pipe, err := s.open(ctx, *out.path, unix.O_RDONLY)
		if err != nil {
			return s, err
		}
		w := out.w
		if _, ok := w.(*os.File); !ok {
			w = locked{w, &mu} // both may be one buffer
		}
		s.outputs.Go(func() {
			if _, err := io.Copy(w, pipe); err != nil {
				s.broken <- struct{}{}
				io.Copy(io.Discard, pipe) //nolint:errcheck // the shim must not wait for a reader
			}
		})
	}
	return s, nil
}

// open makes and opens a named pipe, without waiting for its other end.
func (s *streams) open(ctx context.Context, path string, flag int) (io.ReadWriteCloser, error) {
	f, err := fifo.OpenFifo(ctx, path, flag|unix.O_CREAT|unix.O_NONBLOCK, 0o600)
	if err == nil {
		s.pipes = append(s.pipes, f)
	}
	return f, err
}

type locked struct {
	w  io.Writer
	mu *sync.Mutex
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// connect feeds the task, and passes on what happens to this end of its streams. It
// returns at once.
func (s *streams) connect(c control) {
	go func() {
		select {
		case <-s.broken:
			c.signal(unix.SIGPIPE)
		case <-s.done:
		}
	}()
	if s.tty != nil {
		s.saved, _ = term.MakeRaw(int(s.tty.Fd()))
		sizes := make(chan os.Signal, 1)
		signal.Notify(sizes, unix.SIGWINCH)
		go s.follow(sizes, c)
	}
	if s.in == nil {
		return
	}
	// Not waited for: nothing can interrupt a reader that blocks.
	go func() {
		s.awaitForeground()
		io.Copy(s.input, s.in) //nolint:errcheck // the command may not want it all
		s.input.Close()
		select {
		case <-s.done:
			return
		default:
		}
		if s.tty != nil {
			c.hangUp()
			return
		}
		c.closeInput()
	}()
}

// follow passes the terminal's size on whenever it changes.
func (s *streams) follow(sizes chan os.Signal, c control) {
	defer signal.Stop(sizes)
	for {
		if size, err := unix.IoctlGetWinsize(int(s.tty.Fd()), unix.TIOCGWINSZ); err == nil {
			c.resize(size.Row, size.Col)
		}
		select {
		case <-sizes:
		case <-s.done:
			return
		}
	}
}

// awaitForeground waits as long as standard input is a terminal that is another job's:
// reading from it would stop this process, even where the command never reads.
func (s *streams) awaitForeground() {
	f, ok := s.in.(*os.File)
	if !ok {
		return
	}
	for {
		group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
		if err != nil || group == unix.Getpgrp() {
			return
		}
		select {
		case <-s.done:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// drain waits until everything that the session wrote has arrived. Its processes are
// gone.
func (s *streams) drain() { s.outputs.Wait() }

// close lets go of the pipes and of the terminal.
func (s *streams) close() {
	close(s.done)
	for _, p := range s.pipes {
		p.Close()
	}
	s.outputs.Wait()
	if s.saved != nil {
		term.Restore(int(s.tty.Fd()), s.saved) //nolint:errcheck // it may be gone
	}
}
