package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Console is a session's own terminal, driven by the one that this process has.
type Console struct {
	master  *os.File
	in, out *os.File
	before  *term.State // of in; nil where it is no terminal
	resized chan os.Signal
	stop    [2]*os.File // a pipe: what was written to the second ends the reading of in
	copies  sync.WaitGroup
	written chan struct{} // closed when all that came from the session is out
}

// NewConsole takes over the terminal's master. What is typed on in goes to the
// session as it is, what the session writes to out; hangUp is called when in comes
// to its end.
func NewConsole(master, in, out *os.File, hangUp func()) (*Console, error) {
	c := &Console{master: master, in: in, out: out, resized: make(chan os.Signal, 1), written: make(chan struct{})}
	var err error
	if c.stop[0], c.stop[1], err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	signal.Notify(c.resized, unix.SIGWINCH)
	c.resize()
	if term.IsTerminal(int(in.Fd())) {
		if c.before, err = term.MakeRaw(int(in.Fd())); err != nil {
			c.release()
			return nil, fmt.Errorf("setting the terminal: %w", err)
		}
	}
	c.copies.Go(func() {
		for range c.resized {
			c.resize()
		}
	})
	c.copies.Go(func() { c.typed(hangUp) })
	go func() {
		defer close(c.written)
		if _, err := io.Copy(out, master); err != nil {
			io.Copy(io.Discard, master) // nobody reads any more, and the session must not stand still
		}
	}()
	return c, nil
}

// typed copies what is typed until the end of it, or of the session.
func (c *Console) typed(hangUp func()) {
	poll := []unix.PollFd{{Fd: int32(c.in.Fd()), Events: unix.POLLIN}, {Fd: int32(c.stop[0].Fd()), Events: unix.POLLIN}}
	buf := make([]byte, 32<<10)
	for {
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return
		}
		if poll[1].Revents != 0 {
			return
		}
		if poll[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(int(c.in.Fd()), buf)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil || n == 0:
			hangUp()
			return
		default:
			if _, err := c.master.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func (c *Console) resize() {
	if size, err := unix.IoctlGetWinsize(int(c.in.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, size) //nolint:errcheck // it keeps the size it has
	}
}

// Close gives the terminal back when everything the session wrote has arrived; no
// process of the session is left.
func (c *Console) Close() {
	<-c.written
	c.release()
}

func (c *Console) release() {
	signal.Stop(c.resized)
	close(c.resized)
	c.stop[1].Write([]byte{0}) //nolint:errcheck // a pipe takes one byte
	c.copies.Wait()
	if c.before != nil {
		term.Restore(int(c.in.Fd()), c.before) //nolint:errcheck // the terminal may be gone
	}
	for _, f := range []*os.File{c.master, c.stop[0], c.stop[1]} {
		f.Close()
	}
}

// ConsoleSocket is where an OCI runtime hands over the master of the terminal that it
// made: runc's docs/terminals.md.
type ConsoleSocket struct {
	listener *net.UnixListener
}

// ListenConsole makes the socket as a file in dir.
func ListenConsole(dir, name string) (*ConsoleSocket, error) {
	// By a short way: the path of a socket has at most 107 bytes.
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := filepath.Join("/proc/self/fd", fmt.Sprint(d.Fd()), name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the folder goes as a whole
	return &ConsoleSocket{l}, nil
}

// Receive takes the master from a runtime that has sent it.
func (s *ConsoleSocket) Receive() (*os.File, error) {
	conn, err := s.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	name, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(err, errors.New("no file came"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(err, errors.New("no file came"))
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

// Close closes the socket.
func (s *ConsoleSocket) Close() { s.listener.Close() }
