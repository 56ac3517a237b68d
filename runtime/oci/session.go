package oci

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/stead-env/stead/runtime"
	"golang.org/x/sys/unix"
)

// session is what one running session has on this machine.
type session struct {
	id    string   // also the name of its cgroup
	dir   string   // its own folder in Scratch
	root  string   // where the overlay is mounted, in its mount namespace only
	upper string   // where the overlay's changes are
	lock  *os.File // held while it lives
	kept  *os.File // lock on a kept upper folder

	anchor  *anchor
	runtime *exec.Cmd
	changes *os.Root // upper, reachable from outside the mount namespace too
	made    []string // mount points that were made in upper
	notes   []string
}

// Run runs one session to its end.
func (e *Engine) Run(ctx context.Context, spec runtime.Spec, stdio runtime.Stdio) (res runtime.Result, err error) {
	binary, err := e.find()
	if err != nil {
		return runtime.Result{}, err
	}
	s, err := newSession(spec)
	if err != nil {
		return runtime.Result{}, engineError("making a session in "+spec.Scratch, err)
	}
	defer func() {
		if cerr := s.clear(); err == nil {
			err = cerr
		}
	}()
	streams, err := openStreams(stdio)
	if err != nil {
		return runtime.Result{}, engineError("opening standard streams", err)
	}
	signals := catchSignals()
	defer signals.stop()
	err = onThread(func() error { return s.start(binary, spec, streams) })
	streams.release()
	if err != nil {
		streams.close()
		return runtime.Result{}, engineError("starting "+spec.Name, err)
	}
	stop := context.AfterFunc(ctx, s.anchor.end)
	defer stop()
	res.ExitCode, err = s.wait(spec.Terminal, signals)
	s.anchor.wait()
	streams.close()
	if ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	if err != nil {
		return res, err
	}
	res.Changed, err = s.changed()
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

// newSession makes the session's folder. Its lock file exists and is locked before
// the folder does, so that Sweep never meets a living session without a lock.
func newSession(spec runtime.Spec) (s *session, err error) {
	s = &session{id: prefix + strings.ToLower(rand.Text()[:16])}
	s.dir = filepath.Join(spec.Scratch, s.id)
	s.root = filepath.Join(s.dir, "root")
	if s.lock, err = takeLock(s.dir + lockSuffix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.clear()
		}
	}()
	for _, dir := range []string{s.dir, s.root, s.path("empty"), s.path("files")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if spec.Upper != "" {
		s.kept, err = takeLock(filepath.Join(spec.Upper, "lock"))
		if err == unix.EWOULDBLOCK {
			err = &runtime.Error{Op: "entering the session kept in " + spec.Upper, Code: runtime.CodeEngine,
				Err: fmt.Errorf("it is running already"), Remedy: "end it first, or start one under another name"}
		}
	}
	return s, err
}

func (s *session) path(name string) string { return filepath.Join(s.dir, name) }

// start mounts the root and starts the runtime from the calling thread, which must
// not be used for anything else afterwards.
func (s *session) start(binary string, spec runtime.Spec, std *streams) error {
	if err := enterNamespace(); err != nil {
		return err
	}
	if err := trimCgroups(); err != nil {
		return err
	}
	unix.Umask(0o022) // this thread's alone since unshare(2): for mount points
	if err := s.overlay(spec); err != nil {
		return err
	}
	var err error
	if s.changes, err = os.OpenRoot(s.upper); err != nil {
		return err
	}
	if spec, err = runtime.WriteFiles(spec, s.path("files")); err != nil {
		return err
	}
	if spec, s.made, err = runtime.MountPoints(spec, s.root); err != nil {
		return err
	}
	if err := runtime.Lookup(spec, s.root); err != nil {
		return err
	}
	if s.anchor, err = newAnchor(s.path("empty")); err != nil {
		return err
	}
	at := runtime.Placement{Root: s.root, PID: s.anchor.namespace(), Cgroup: "/" + s.id}
	if size, err := unix.IoctlGetWinsize(int(std.in.Fd()), unix.TIOCGWINSZ); err == nil {
		at.Rows, at.Columns = uint(size.Row), uint(size.Col)
	}
	config, err := runtime.OCI(spec, at)
	if err != nil {
		return err
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("config.json"), data, 0o600); err != nil {
		return err
	}
	args := []string{"--root", s.path("state"), "--log", s.path("log"), "--log-format", "json",
		"run", "--bundle", s.dir}
	if !spec.Terminal {
		// Detached, the command has the given streams themselves, not copies of what
		// goes through them, and no process but this one stands above it.
		args = append(args, "--detach", "--pid-file", s.path("pid"))
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("becoming the parent of orphans: %w", err)
		}
	}
	s.runtime = exec.Command(binary, append(args, s.id)...)
	s.runtime.Env = []string{"PATH=" + os.Getenv("PATH")}
	s.runtime.Stdin, s.runtime.Stdout, s.runtime.Stderr = std.in, std.out, std.err
	return s.runtime.Start()
}

// wait waits for the command, forwarding signals to it, and returns its exit code.
func (s *session) wait(terminal bool, signals *signals) (int, error) {
	if terminal {
		signals.forward(s.runtime.Process, graceTerminal, s.anchor.end)
		err := s.runtime.Wait()
		if err != nil && s.runtime.ProcessState.ExitCode() == 1 {
			err = s.failure()
		} else if s.runtime.ProcessState != nil {
			err = nil
		}
		return exitCode(s.runtime.ProcessState), err
	}
	if err := s.runtime.Wait(); err != nil {
		if failure := s.failure(); failure != nil {
			return runtime.CodeEngine, failure
		}
		return runtime.CodeEngine, engineError("running "+s.runtime.Path, err)
	}
	text, err := os.ReadFile(s.path("pid"))
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
	signals.forward(command, grace, s.anchor.end)
	state, err := command.Wait()
	if err != nil {
		return runtime.CodeEngine, engineError("waiting for the command", err)
	}
	return exitCode(state), nil
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

// onThread calls f on a thread that ends with it: threads can't leave a mount
// namespace. It is never the main one, whose end would be no end.
func onThread(f func() error) error {
	result := make(chan error)
	var run func()
	run = func() {
		goruntime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			done := make(chan struct{})
			go func() { defer close(done); run() }()
			<-done
			goruntime.UnlockOSThread()
			return
		}
		result <- f()
	}
	go run()
	return <-result
}
