package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// daemon is a connection to containerd.
type daemon struct {
	Options
	conn *grpc.ClientConn
	peer int // the daemon's process, or 0 where it isn't seen from here

	containers containersapi.ContainersClient
	content    content.Store
	diff       diffapi.DiffClient
	images     imagesapi.ImagesClient
	leases     leasesapi.LeasesClient
	snapshots  snapshotsapi.SnapshotsClient
	tasks      tasksapi.TasksClient
}

// The oldest daemon that all this was tried with.
const minMajor, minMinor = 1, 6

// maxMessage is the size of messages as containerd's own client takes them.
const maxMessage = 16 << 20

// connect connects to the daemon, and makes sure that it is one that this process
// can have sessions in.
func (e *Engine) connect(ctx context.Context) (*daemon, error) {
	d := &daemon{Options: e.options.complete()}
	d.Address = strings.TrimPrefix(d.Address, "unix://")
	if err := d.reach(ctx); err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.Address)
	}
	var err error
	d.conn, err = grpc.NewClient("passthrough:///containerd", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, d.fail("connecting to containerd", err, "")
	}
	d.containers = containersapi.NewContainersClient(d.conn)
	d.content = proxy.NewContentStore(d.conn)
	d.diff = diffapi.NewDiffClient(d.conn)
	d.images = imagesapi.NewImagesClient(d.conn)
	d.leases = leasesapi.NewLeasesClient(d.conn)
	d.snapshots = snapshotsapi.NewSnapshotsClient(d.conn)
	d.tasks = tasksapi.NewTasksClient(d.conn)
	if d.Snapshotter == "" {
		if d.Snapshotter, err = d.defaultSnapshotter(ctx); err != nil {
			d.close()
			return nil, d.fail("connecting to containerd", err, "is that the socket of a containerd?")
		}
	}
	return d, nil
}

func (d *daemon) close() { d.conn.Close() }

// in is ctx for requests in the engine's namespace.
func (d *daemon) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, d.Namespace)
}

// linger is ctx for a request that changes something. The daemon goes on with one that
// is given up, or stops in the middle of it and leaves half of what it made, after all
// was cleared here: such a request is given up only where the daemon is late.
func linger(ctx context.Context) (context.Context, context.CancelFunc) {
	lingering, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(session.Grace, cancel)
		context.AfterFunc(lingering, func() { timer.Stop() })
	})
	return lingering, cancel
}

func (d *daemon) fail(op string, err error, remedy string) error {
	return &runtime.Error{Op: op + " at " + d.Address, Code: runtime.CodeEngine, Err: native(err), Remedy: remedy}
}

const embedded = "or use the embedded engine, which needs no daemon: --engine embedded"

// reach tries the socket, and looks at who listens there.
func (d *daemon) reach(ctx context.Context) error {
	const op = "connecting to containerd"
	conn, err := new(net.Dialer).DialContext(ctx, "unix", d.Address)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.fail(op, errors.New("there is no such socket"), "start it (systemctl start containerd), or name its socket in $CONTAINERD_ADDRESS; "+embedded)
	case errors.Is(err, unix.ECONNREFUSED):
		return d.fail(op, errors.New("nobody listens on its socket"), "start it (systemctl start containerd); "+embedded)
	case errors.Is(err, fs.ErrPermission):
		return d.fail(op, errors.New("permission denied"), "this daemon is root's: run as root, "+embedded)
	case err != nil:
		return d.fail(op, err, "")
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return d.fail(op, err, "")
	}
	raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			d.peer = int(peer.Pid)
		}
	})
	return d.together()
}

// together reports why a session in the daemon would not be on this machine as this
// process sees it: it mounts snapshots, and gives the daemon processes and paths by
// name.
func (d *daemon) together() error {
	const op = "using containerd"
	if os.Geteuid() != 0 {
		return d.fail(op, errors.New("a session there needs root, to mount its snapshot"), "run as root, "+embedded)
	}
	for kind, what := range map[string]string{"user": "user IDs", "pid": "processes", "mnt": "mounts"} {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		theirs, terr := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", d.peer, kind))
		if err == nil && terr == nil && ours == theirs {
			continue
		}
		if terr != nil && !errors.Is(terr, fs.ErrNotExist) {
			return d.fail(op, fmt.Errorf("looking at the daemon: %w", terr), "run as root, "+embedded)
		}
		return d.fail(op, fmt.Errorf("the daemon has %s of its own: it runs in a container, or rootless", what),
			"use a containerd of this machine's root, "+embedded)
	}
	return nil
}

// defaultSnapshotter is what the namespace's own label says, as for ctr and nerdctl.
func (d *daemon) defaultSnapshotter(ctx context.Context) (string, error) {
	resp, err := namespacesapi.NewNamespacesClient(d.conn).Get(ctx, &namespacesapi.GetNamespaceRequest{Name: d.Namespace})
	if err != nil && !notFound(err) {
		return "", err
	}
	if name := resp.GetNamespace().GetLabels()["containerd.io/defaults/snapshotter"]; name != "" {
		return name, nil
	}
	return defaultSnapshotter, nil
}

// check asks the daemon for all that a session needs.
func (d *daemon) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(d.in(ctx), 10*time.Second)
	defer cancel()
	resp, err := versionapi.NewVersionClient(d.conn).Version(ctx, &emptypb.Empty{})
	if err != nil {
		return d.fail("asking containerd for its version", err, "is that the socket of a containerd?")
	}
	var major, minor int
	fmt.Sscanf(strings.TrimPrefix(resp.Version, "v"), "%d.%d", &major, &minor)
	if major < minMajor || major == minMajor && minor < minMinor {
		return d.fail("using containerd", fmt.Errorf("it is version %.40q, and %d.%d is needed", resp.Version, minMajor, minMinor),
			"install a newer containerd, "+embedded)
	}
	plugins, err := introspectionapi.NewIntrospectionClient(d.conn).Plugins(ctx, &introspectionapi.PluginsRequest{
		Filters: []string{"type==io.containerd.snapshotter.v1"}})
	if err != nil {
		return d.fail("asking containerd for its snapshotters", err, "")
	}
	var why, others []string
	for _, p := range plugins.Plugins {
		switch {
		case p.InitErr == nil && p.ID == d.Snapshotter:
			return nil
		case p.InitErr == nil:
			others = append(others, p.ID)
		case p.ID == d.Snapshotter:
			why = append(why, ": "+p.InitErr.Message)
		}
	}
	return d.fail("using containerd", fmt.Errorf("it has no snapshotter %s%s", d.Snapshotter, strings.Join(why, "")),
		fmt.Sprintf("choose another in $CONTAINERD_SNAPSHOTTER (%s), %s", strings.Join(others, ", "), embedded))
}

// explain is the reason that check finds for an error, or that error.
func (d *daemon) explain(ctx context.Context, op string, err error) error {
	if e, ok := errors.AsType[*runtime.Error](err); ok {
		return e
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if found := d.check(ctx); found != nil {
		return found
	}
	return d.fail(op, err, "")
}
