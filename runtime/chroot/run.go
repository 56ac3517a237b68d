package chroot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// running is one running session.
type running struct {
	*session.Folder
	root   string // the private root
	record *record
	kept   *os.File // lock on a kept upper folder
	lost   lost
	notes  []string
	keep   bool // something could not be brought back: the folder stays for the next try
}

// Run runs one session to its end.
func (e *Engine) Run(ctx context.Context, spec runtime.Spec, stdio runtime.Stdio) (res runtime.Result, err error) {
	if err := e.Check(ctx); err != nil {
		return res, err
	}
	if err := runtime.RefuseKernel(spec, e.Name()); err != nil {
		return res, err
	}
	s, err := newSession(spec)
	if err != nil {
		return res, engineError("making a session in "+spec.Scratch, err)
	}
	defer func() { err = errors.Join(err, s.clear()) }()
	signals := session.CatchSignals()
	defer signals.Stop()
	streams, err := session.OpenStreams(stdio)
	if err != nil {
		return res, engineError("opening standard streams", err)
	}
	// The guard takes the end of its thread for the end of this process.
	err = session.OnThread(func() error {
		// There is no command yet to pass signals on to, and copying can take long.
		making, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
		spec, err := s.prepare(making, spec)
		stop()
		if err != nil {
			return engineError("making a root for "+spec.Name, err)
		}
		res.ExitCode, err = s.command(ctx, spec, streams, signals)
		return err
	})
	streams.Release()
	streams.Close()
	if err == nil || s.keep {
		err = errors.Join(err, s.finish(&res))
	}
	if ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	res.Notes = s.notes
	return res, err
}

// engineError wraps what isn't a *runtime.Error yet.
func engineError(op string, err error) error {
	if _, ok := errors.AsType[*runtime.Error](err); ok || err == nil {
		return err
	}
	bad := &runtime.Error{Op: op, Code: runtime.CodeEngine, Err: err}
	if errors.Is(err, unix.ENOSPC) {
		bad.Remedy = "every session of this engine takes as much space as its root filesystem: stead gc frees some; a store on a file system with reflinks (xfs, btrfs) needs none"
	}
	return bad
}

func newSession(spec runtime.Spec) (*running, error) {
	folder, err := session.NewFolderPrefix(Prefix, spec.Scratch, "files")
	if err != nil {
		return nil, err
	}
	s := &running{Folder: folder, record: newRecord()}
	if s.Dir, err = filepath.EvalSymlinks(folder.Dir); err == nil { // as /proc shows it
		s.root = s.Path("root")
		s.record.Layers = append(slices.Clone(spec.Lower), spec.Root)
		s.record.Upper = spec.Upper
		if spec.Upper != "" {
			err = s.take(spec.Upper, spec.Root)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.clear())
	}
	return s, nil
}

// take locks a kept upper folder, and makes what belongs into it.
func (s *running) take(upper, root string) error {
	var err error
	if s.kept, err = session.TakeUpper(upper); err != nil {
		return err
	}
	dir := filepath.Join(upper, "upper")
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return err
	}
	// A new one is the top of the root: its mode is that of /.
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, int(st.Uid), int(st.Gid)), unix.Chmod(dir, st.Mode&0o7777))
}

// clear removes all that the session had. Its processes are gone.
func (s *running) clear() error {
	if s.kept != nil {
		s.kept.Close()
	}
	if s.keep {
		return s.Leave()
	}
	return s.Remove(nil)
}

// prepare makes the private root and copies what is mounted into it.
func (s *running) prepare(ctx context.Context, spec runtime.Spec) (runtime.Spec, error) {
	if err := s.copyRoot(ctx, spec); err != nil {
		return spec, err
	}
	devices, err := makeDevices(s.root)
	if err != nil {
		return spec, err
	}
	if spec, err = runtime.WriteFiles(spec, s.Path("files")); err != nil {
		return spec, err
	}
	if spec, s.record.Made, err = runtime.MountPoints(spec, s.root); err != nil {
		return spec, err
	}
	if err := s.copyMounts(ctx, spec.Mounts); err != nil {
		return spec, err
	}
	s.addDevices(spec.Devices)
	s.record.Mounts = spec.Mounts
	inside := spec
	inside.Mounts = nil
	if err := runtime.Lookup(inside, s.root); err != nil {
		return spec, err
	}
	s.explain(spec, devices)
	return spec, s.record.start(s.Dir)
}

// copyRoot makes the private root from its layers.
func (s *running) copyRoot(ctx context.Context, spec runtime.Spec) error {
	skip := map[string]bool{}
	for _, name := range own {
		skip[name] = true
	}
	list := s.record.Layers
	if spec.Upper != "" {
		list = append([]string{filepath.Join(spec.Upper, "upper")}, list...)
	}
	for i, dir := range slices.Backward(list) {
		c := &copier{to: s.root, record: s.record, layer: i < len(list)-1, links: true, skip: skip}
		lost, err := c.tree(ctx, dir, "")
		if err != nil {
			return err
		}
		s.lost.add(lost)
	}
	return nil
}

// copyMounts copies what other engines mount, outer places first.
func (s *running) copyMounts(ctx context.Context, mounts []runtime.Mount) error {
	for i, m := range mounts {
		at := strings.TrimPrefix(m.Target, "/")
		if err := runtime.RemoveAll(filepath.Join(s.root, at)); err != nil {
			return err
		}
		source, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			return err
		}
		skip := map[string]bool{}
		for _, inner := range mounts[i+1:] {
			skip[strings.TrimPrefix(inner.Target, "/")] = true
		}
		c := &copier{to: s.root, record: s.record, base: !m.ReadOnly, skip: skip}
		lost, err := c.tree(ctx, source, at)
		if err != nil {
			return err
		}
		s.lost.add(lost)
	}
	return nil
}

// explain says what is different from other engines' sessions.
func (s *running) explain(spec runtime.Spec, devices bool) {
	note := func(format string, args ...any) { s.notes = append(s.notes, fmt.Sprintf(format, args...)) }
	lacks := "a chroot: no /proc and no /sys inside, this machine's processes are not hidden"
	if spec.Network != runtime.NetworkHost {
		lacks += ", its network is not cut off"
	}
	note("%s", lacks)
	if !devices {
		note("no device can be made here (CAP_MKNOD is missing, or the file system refuses): /dev/null is an ordinary file, and there is no other")
	}
	if s.lost.capabilities > 0 {
		note("%d programs lost their file capabilities (CAP_SETFCAP is missing)", s.lost.capabilities)
	}
	if s.lost.special > 0 {
		note("%d sockets or devices could not be copied", s.lost.special)
	}
	if s.lost.deep > 0 {
		note("%d files or folders are not inside: their path is too long", s.lost.deep)
	}
	var fs unix.Statfs_t
	if unix.Statfs(s.root, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		note("%s is mounted with nosuid: set-user-ID programs have no effect", spec.Scratch)
	}
}

// finish brings back what the session changed.
func (s *running) finish(res *runtime.Result) error {
	ctx := context.Background() // whoever ends a session wants its work
	s.keep = true
	if err := killInside(s.Dir); err != nil {
		return engineError("ending the session", err)
	}
	notes, err := s.record.bringBack(ctx, s.root)
	s.notes = append(s.notes, notes...)
	if err == nil {
		res.Changed, err = s.record.changes(ctx, s.root)
	}
	if err == nil && s.record.Upper != "" {
		res.Changed, err = keptChanges(s.record)
	}
	if err != nil {
		bad := &runtime.Error{Op: "ending the session", Code: runtime.CodeEngine, Err: err,
			Remedy: "all of it is in " + s.root + ", and the next command tries again"}
		return bad
	}
	s.keep = false
	return nil
}

// keptChanges counts what is in a kept upper folder by now.
func keptChanges(r *record) (int, error) {
	upper, err := os.OpenRoot(filepath.Join(r.Upper, "upper"))
	if err != nil {
		return 0, err
	}
	defer upper.Close()
	return session.Changed(upper, r.Made)
}

// command starts the command and waits for its end, and for that of all it left.
func (s *running) command(ctx context.Context, spec runtime.Spec, std *session.Streams, signals *session.Signals) (int, error) {
	c, err := newCommand(spec, s.root, std)
	if err != nil {
		return runtime.CodeEngine, engineError("starting "+spec.Name, err)
	}
	s.keep = true // from here on there may be something to bring back
	g, err := startGuard(c)
	if err != nil {
		return runtime.CodeEngine, engineError("starting "+spec.Name, err)
	}
	std.Release()
	defer g.wait()
	defer restoreTerminal(spec.Terminal, std.In)
	stop := context.AfterFunc(ctx, g.end)
	defer stop()
	for {
		kind, value, err := g.next()
		switch {
		case err != nil:
			return runtime.CodeEngine, &runtime.Error{Op: "running " + spec.Name, Code: runtime.CodeEngine,
				Err: errors.New("the process that guards the session was killed")}
		case kind == reportPID:
			forward(value, spec.Terminal, std.In, signals, g)
		case kind == reportError:
			s.keep = false
			return runtime.CodeEngine, startError(spec, value>>16, syscall.Errno(value&0xffff))
		case kind == reportStatus:
			return exitCode(syscall.WaitStatus(value)), nil
		}
	}
}

// forward passes signals on. What the keyboard sends the command has got, too.
func forward(pid int, terminal bool, in *os.File, signals *session.Signals, g *guard) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	grace := session.Grace
	if terminal {
		grace = session.GraceTerminal
	}
	signals.Forward(func(sig os.Signal) {
		if terminal && (sig == unix.SIGINT || sig == unix.SIGQUIT) && inForeground(in) {
			return
		}
		process.Signal(sig)
	}, grace, g.end)
}

func inForeground(terminal *os.File) bool {
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// restoreTerminal takes the terminal back from a shell that was killed.
func restoreTerminal(had bool, terminal *os.File) {
	if !had || inForeground(terminal) {
		return
	}
	var old, block unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old) != nil {
		return
	}
	unix.IoctlSetPointerInt(int(terminal.Fd()), unix.TIOCSPGRP, unix.Getpgrp()) //nolint:errcheck // it may be gone
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

func startError(spec runtime.Spec, step int, errno syscall.Errno) error {
	bad := &runtime.Error{Op: steps[step] + " for " + spec.Name, Code: runtime.CodeEngine, Err: errno}
	switch {
	case step != stepExecute:
	case errno == syscall.ENOENT || errno == syscall.ENOTDIR:
		bad.Code = runtime.CodeNotFound
	default:
		bad.Code = runtime.CodeNotExecutable
	}
	if step == stepExecute {
		bad.Op = "executing " + spec.Command[0]
	}
	if step == stepFolder {
		bad.Op = "changing to " + path.Join("/", spec.Dir)
	}
	return bad
}
