package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// The runtime that the daemon starts containers with, and what it calls their
// specification.
const (
	shim     = "io.containerd.runc.v2"
	specType = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
)

// running is one running session.
type running struct {
	*session.Folder
	daemon  *daemon
	scratch string
	kept    *os.File // lock on a kept upper folder

	image       image
	mounts      []*types.Mount // of the session's snapshot
	upper, work string         // the overlay's own folders, where it is one
	changes     *os.Root       // upper
	made        []string       // mount points that were made in upper
	anchor      *session.Anchor
	streams     *streams
	halfway     bool // the task may still be starting
	notes       []string
}

// Run runs one session to its end.
func (e *Engine) Run(ctx context.Context, spec runtime.Spec, stdio runtime.Stdio) (res runtime.Result, err error) {
	if spec.Identity == "" {
		return res, &runtime.Error{Op: "starting " + spec.Name, Code: runtime.CodeEngine,
			Err: fmt.Errorf("the env has no identity to find its image by")}
	}
	d, err := e.connect(ctx)
	if err != nil {
		return res, err
	}
	defer d.close()
	s, err := newSession(d, spec)
	if err != nil {
		return res, engineError("making a session in "+spec.Scratch, err)
	}
	defer func() {
		if cerr := s.clear(); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	if err := s.prepare(ctx, spec); err != nil {
		return res, engineError("preparing "+spec.Name, err)
	}
	signals := session.CatchSignals()
	defer signals.Stop()
	var config *specs.Spec
	err = session.OnThread(func() (err error) {
		config, err = s.place(&spec, stdio)
		return err
	})
	if err != nil {
		return res, engineError("starting "+spec.Name, err)
	}
	res.ExitCode, err = s.run(ctx, spec, config, stdio, signals)
	if ctx.Err() != nil {
		return res, context.Cause(ctx)
	}
	if err != nil {
		return res, engineError("starting "+spec.Name, err)
	}
	res.Notes = s.notes
	res.Changed, err = s.changed(d.in(ctx))
	return res, err
}

func newSession(d *daemon, spec runtime.Spec) (*running, error) {
	folder, err := session.NewFolder(spec.Scratch, "root", "empty", "files", "streams")
	if err != nil {
		return nil, err
	}
	s := &running{Folder: folder, daemon: d, scratch: spec.Scratch}
	if s.kept, err = session.TakeUpper(spec.Upper); err == nil {
		return s, nil
	}
	s.Remove(nil) //nolint:errcheck // the first error counts
	return nil, err
}

// clear removes all that the session had, here and in the daemon.
func (s *running) clear() error {
	if s.anchor != nil {
		s.anchor.Wait()
	}
	if s.streams != nil {
		s.streams.close()
	}
	if s.changes != nil {
		s.changes.Close()
	}
	if s.kept != nil {
		s.kept.Close()
	}
	remove := s.daemon.remove
	if s.halfway {
		remove = s.daemon.sweep
	}
	return s.Remove(func(id string) error {
		return remove(s.daemon.in(context.Background()), id, s.daemon.Snapshotter)
	})
}

// place makes the session's mount points in its snapshot, and its anchor, from the
// calling thread, which must not be used for anything else afterwards. It returns the
// container's specification, and spec as that has it.
func (s *running) place(spec *runtime.Spec, stdio runtime.Stdio) (*specs.Spec, error) {
	if err := session.PrivateMounts(); err != nil {
		return nil, err
	}
	unix.Umask(0o022) // this thread's alone since unshare(2): for mount points
	root := s.Path("root")
	unmount, err := s.mountHere(*spec, root)
	if err != nil {
		return nil, err
	}
	placed, err := s.inside(*spec, root)
	if uerr := unmount(); err == nil {
		err = uerr
	}
	if err != nil {
		return nil, err
	}
	*spec = placed
	if s.upper != "" {
		if s.changes, err = os.OpenRoot(s.upper); err != nil {
			return nil, err
		}
	}
	if s.anchor, err = session.NewAnchor(s.Path("empty")); err != nil {
		return nil, err
	}
	at := runtime.Placement{Root: "rootfs", PID: s.anchor.Namespace(), Cgroup: "/" + s.ID}
	if f, ok := stdio.In.(*os.File); ok && spec.Terminal {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			at.Rows, at.Columns = uint(size.Row), uint(size.Col)
		}
	}
	return runtime.OCI(*spec, at)
}

// inside does what needs the session's root.
func (s *running) inside(spec runtime.Spec, root string) (runtime.Spec, error) {
	spec, err := runtime.WriteFiles(spec, s.Path("files"))
	if err != nil {
		return spec, err
	}
	if spec, s.made, err = runtime.MountPoints(spec, root); err != nil {
		return spec, err
	}
	return spec, runtime.Lookup(spec, root)
}

// run makes the container, starts its task, and waits until all of it has ended.
// The end of caller is the end of the session, and not of what is asked for that.
func (s *running) run(caller context.Context, spec runtime.Spec, config *specs.Spec, stdio runtime.Stdio, signals *session.Signals) (int, error) {
	ctx := s.daemon.in(context.WithoutCancel(caller))
	data, err := json.Marshal(config)
	if err != nil {
		return runtime.CodeEngine, err
	}
	_, err = s.daemon.containers.Create(ctx, &containersapi.CreateContainerRequest{Container: &containersapi.Container{
		ID: s.ID, Image: s.image.name, Snapshotter: s.daemon.Snapshotter, SnapshotKey: s.ID,
		Labels:  map[string]string{labelScratch: spec.Scratch, labelIdentity: spec.Identity},
		Runtime: &containersapi.Container_Runtime{Name: shim}, Spec: &anypb.Any{TypeUrl: specType, Value: data}}})
	if err != nil {
		return runtime.CodeEngine, s.daemon.fail("making a container", err, "")
	}
	if s.streams, err = openStreams(ctx, s.Path("streams"), stdio, spec.Terminal); err != nil {
		return runtime.CodeEngine, err
	}
	ended, end := context.WithCancel(s.daemon.in(caller))
	defer end()
	defer context.AfterFunc(ended, s.anchor.End)()
	starting, cancel := linger(ended)
	defer cancel()
	grace := session.Grace
	if spec.Terminal {
		grace = session.GraceTerminal
	}
	signals.Forward(func(sig os.Signal) { s.signal(ctx, sig.(unix.Signal)) }, grace, end)
	if ended.Err() != nil {
		return runtime.CodeEngine, context.Cause(ended)
	}
	_, err = s.daemon.tasks.Create(starting, &tasksapi.CreateTaskRequest{ContainerID: s.ID, Rootfs: s.mounts,
		Stdin: s.streams.stdin, Stdout: s.streams.stdout, Stderr: s.streams.stderr, Terminal: spec.Terminal})
	if err != nil {
		s.halfway = true
		return runtime.CodeEngine, notStarted(err)
	}
	s.streams.connect(s.control(ctx, grace))
	if _, err := s.daemon.tasks.Start(starting, &tasksapi.StartRequest{ContainerID: s.ID}); err != nil {
		s.halfway = true
		return runtime.CodeEngine, notStarted(err)
	}
	code, err := s.wait(ctx)
	s.anchor.Wait()
	s.streams.drain()
	return code, err
}

// control is what the streams ask of the task. Errors are left: it may be gone.
func (s *running) control(ctx context.Context, grace time.Duration) control {
	return control{
		signal: func(sig unix.Signal) { s.signal(ctx, sig) },
		hangUp: func() {
			s.signal(ctx, unix.SIGHUP)
			time.AfterFunc(grace, s.anchor.End)
		},
		closeInput: func() {
			s.daemon.tasks.CloseIO(ctx, &tasksapi.CloseIORequest{ContainerID: s.ID, Stdin: true}) //nolint:errcheck
		},
		resize: func(rows, columns uint16) {
			s.daemon.tasks.ResizePty(ctx, &tasksapi.ResizePtyRequest{ContainerID: s.ID, //nolint:errcheck
				Height: uint32(rows), Width: uint32(columns)})
		},
	}
}

func (s *running) signal(ctx context.Context, sig unix.Signal) {
	s.daemon.tasks.Kill(ctx, &tasksapi.KillRequest{ContainerID: s.ID, Signal: uint32(sig)}) //nolint:errcheck // it may be gone
}

// wait waits for the command and returns its exit code. A daemon that is started anew
// meanwhile finds its containers again.
func (s *running) wait(ctx context.Context) (int, error) {
	const restart = 30 * time.Second
	var since time.Time
	for {
		resp, err := s.daemon.tasks.Wait(ctx, &tasksapi.WaitRequest{ContainerID: s.ID})
		if err == nil {
			return int(resp.ExitStatus), nil
		}
		if since.IsZero() {
			since = time.Now()
		}
		if !errdefs.IsUnavailable(native(err)) || time.Since(since) > restart {
			return runtime.CodeEngine, s.daemon.fail("waiting for the command", err, "")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
