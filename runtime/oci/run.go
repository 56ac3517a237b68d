package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
	"golang.org/x/sys/unix"
)

// running is one running session.
type running struct {
	*session.Folder
	own   string          // what only the session's mount namespace has: a folder in memory
	kit   *os.Root        // own, reachable from outside it too
	root  string          // in own, where the overlay is mounted
	upper string          // where the overlay's changes are
	kept  *os.File        // lock on a kept upper folder
	other *session.Folder // of the changes, where they can't be in this one

	cgroup  bool // the runtime makes one
	anchor  *session.Anchor
	runtime *os.Process
	socket  *session.ConsoleSocket // where the session has a terminal
	console *session.Console
	changes *os.Root // upper, reachable from outside the mount namespace too
	made    []string // mount points that were made in upper
	notes   []string
}

// Run runs one session to its end.
func (e *Engine) Run(ctx context.Context, spec runtime.Spec, stdio runtime.Stdio) (res runtime.Result, err error) {
	if err := checkRights(); err != nil {
		return runtime.Result{}, err
	}
	if err := checkUser(spec); err != nil {
		return runtime.Result{}, err
	}
	binary, err := e.find()
	if err != nil {
		return runtime.Result{}, err
	}
	begun := time.Now()
	s, err := newSession(spec)
	if err != nil {
		return runtime.Result{}, engineError("making a session in "+spec.Scratch, err)
	}
	defer func() {
		if cerr := s.clear(); err == nil {
			err = cerr
		}
	}()
	at := s.place(spec, isCrun(binary))
	filter := makeFilter(binary, spec, at)
	streams, err := session.OpenStreams(stdio)
	if err != nil {
		return runtime.Result{}, engineError("opening standard streams", err)
	}
	signals := session.CatchSignals()
	defer signals.Stop()
	err = session.OnThread(func() error { return s.start(binary, spec, at, filter, streams) })
	streams.Release()
	if err != nil {
		streams.Close()
		return runtime.Result{}, engineError("starting "+spec.Name, err)
	}
	stop := context.AfterFunc(ctx, s.anchor.End)
	defer stop()
	res.ExitCode, err = s.wait(streams, signals)
	s.anchor.Wait()
	if s.console != nil {
		s.console.Close()
	}
	streams.Close()
	if oerr := own(spec, begun); err == nil {
		err = oerr
	}
	if ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	if err != nil {
		return res, err
	}
	res.Changed, err = session.Changed(s.changes, s.made, append(slices.Clone(spec.Lower), spec.Root)...)
	res.Notes = s.notes
	return res, err
}

// engineError wraps what isn't a *runtime.Error yet.
func engineError(op string, err error) error {
	if e, ok := err.(*runtime.Error); ok {
		return e
	}
	return &runtime.Error{Op: op, Code: runtime.CodeEngine, Err: err}
}

func newSession(spec runtime.Spec) (*running, error) {
	folder, err := session.NewFolder(spec.Scratch, "own")
	if err != nil {
		return nil, err
	}
	s := &running{Folder: folder, own: folder.Path("own"), root: folder.Path("own/root")}
	if s.kept, err = session.TakeUpper(spec.Upper); err == nil {
		return s, nil
	}
	s.clear()
	return nil, err
}

// clear removes all that the session had. Its processes are gone.
func (s *running) clear() (err error) {
	if s.anchor != nil {
		s.anchor.Wait()
	}
	if s.changes != nil {
		s.changes.Close()
	}
	if s.kit != nil {
		s.kit.Close()
	}
	if s.kept != nil {
		s.kept.Close()
	}
	if s.socket != nil {
		s.socket.Close()
	}
	if s.other != nil {
		err = s.other.Remove(nil)
	}
	if s.cgroup {
		return errors.Join(err, s.Remove(session.RemoveCgroup))
	}
	return errors.Join(err, s.Remove(nil))
}

// start mounts the root and starts the runtime from the calling thread, which must
// not be used for anything else afterwards.
func (s *running) start(binary string, spec runtime.Spec, at runtime.Placement, filter madeFilter, std *session.Streams) error {
	if err := session.PrivateMounts(); err != nil {
		return err
	}
	crun := isCrun(binary)
	if err := trimCgroups(crun); err != nil {
		return err
	}
	if err := s.remember(); err != nil {
		return err
	}
	spec, err := s.furnish(spec)
	if err != nil {
		return err
	}
	if at.PID, err = s.hold(); err != nil {
		return err
	}
	if size, err := unix.IoctlGetWinsize(int(std.In.Fd()), unix.TIOCGWINSZ); err == nil {
		at.Rows, at.Columns = uint(size.Row), uint(size.Col)
	}
	if err := s.configure(spec, at, filter); err != nil {
		return err
	}
	// The kernel gives ordinary users few keyrings, and takes its time to have them back;
	// the filter refuses all that could be done with this process's.
	// Detached, the command has the given streams themselves, not copies of what goes
	// through them, and no process but this one stands above it.
	args := []string{"--root", s.inside("state"), "--log", s.inside("log"), "--log-format", "json"}
	if crun {
		args = append(args, "--cgroup-manager", "disabled")
	}
	args = append(args, "run", "--no-new-keyring", "--bundle", s.own, "--detach", "--pid-file", s.inside("pid"))
	if spec.Terminal {
		if s.socket, err = session.ListenConsole(s.own, "console"); err != nil {
			return fmt.Errorf("making a socket for the terminal: %w", err)
		}
		args = append(args, "--console-socket", "console")
	}
	if len(at.Become) > 0 {
		args = append(args, "--preserve-fds", "1") // this program: see launch
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of orphans: %w", err)
	}
	s.runtime, err = s.launch(binary, append(args, s.ID), std, at)
	return err
}

// remember mounts the session's own folder: what is in it needs no clearing, and is
// gone with the last of the session's processes however that ends.
func (s *running) remember() (err error) {
	if err := unix.Mount("tmpfs", s.own, "tmpfs", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mounting a tmpfs: %w", err)
	}
	if s.kit, err = os.OpenRoot(s.own); err != nil {
		return err
	}
	return errors.Join(s.kit.Mkdir("root", 0o700), s.kit.Mkdir("files", 0o700))
}

// inside is the path of a file in the session's own folder.
func (s *running) inside(name string) string { return filepath.Join(s.own, name) }

// furnish mounts the root and makes in it what the session's mounts need. It returns
// spec with places that have no links.
func (s *running) furnish(spec runtime.Spec) (runtime.Spec, error) {
	unix.Umask(0o022) // this thread's alone since unshare(2): for mount points
	if err := s.overlay(spec); err != nil {
		return spec, err
	}
	var err error
	if s.changes, err = os.OpenRoot(s.upper); err != nil {
		return spec, err
	}
	if spec, err = runtime.WriteFiles(spec, s.inside("files")); err != nil {
		return spec, err
	}
	if spec, s.made, err = runtime.MountPoints(spec, s.root); err != nil {
		return spec, err
	}
	if err := runtime.Lookup(spec, s.root); err != nil {
		return spec, err
	}
	return s.bind(spec)
}

// configure writes the specification for the OCI runtime.
func (s *running) configure(spec runtime.Spec, at runtime.Placement, made madeFilter) error {
	filter, err := made()
	if err != nil {
		return err
	}
	at.Filter = filter.seccomp
	config, err := runtime.OCI(spec, at)
	if err != nil {
		return err
	}
	config.Annotations = filter.annotations
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return s.kit.WriteFile("config.json", data, 0o600)
}

// wait waits for the command, forwarding signals to it, and returns its exit code.
func (s *running) wait(std *session.Streams, signals *session.Signals) (int, error) {
	state, err := s.runtime.Wait()
	if err == nil && !state.Success() {
		if err = s.failure(); err == nil {
			err = errors.New(state.String())
		}
	}
	if err != nil {
		return runtime.CodeEngine, engineError("running the OCI runtime", err)
	}
	text, err := s.kit.ReadFile("pid")
	if err != nil {
		return runtime.CodeEngine, engineError("reading the command's process id", err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return runtime.CodeEngine, engineError("reading the command's process id", err)
	}
	command, err := os.FindProcess(pid)
	if err != nil {
		return runtime.CodeEngine, engineError("finding the command", err)
	}
	grace, send := session.Grace, func(sig os.Signal) { command.Signal(sig) }
	if s.socket != nil {
		grace = session.GraceTerminal
		if err := s.openConsole(std, func() { signals.Add(unix.SIGHUP) }); err != nil {
			return runtime.CodeEngine, engineError("opening the session's terminal", err)
		}
	}
	signals.Forward(send, grace, s.anchor.End)
	if state, err = command.Wait(); err != nil {
		return runtime.CodeEngine, engineError("waiting for the command", err)
	}
	return exitCode(state), nil
}

// openConsole takes the terminal that the runtime made.
func (s *running) openConsole(std *session.Streams, hangUp func()) error {
	master, err := s.socket.Receive()
	if err != nil {
		return err
	}
	s.console, err = session.NewConsole(master, std.In, std.Out, hangUp)
	return err
}

// exitCode is the code of a process as a shell would tell it.
func exitCode(state *os.ProcessState) int {
	if state == nil {
		return runtime.CodeEngine
	}
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
