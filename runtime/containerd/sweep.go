package containerd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime/session"
)

// runcRoot is where containerd's shim lets runc have its state, by namespace.
const runcRoot = "/run/containerd/runc"

// patience is how long the daemon may take to let go of a session, on a machine that
// has much else to do.
const patience = 3 * session.Grace

// Sweep removes what killed sessions of scratch left, here and in the daemon.
func (e *Engine) Sweep(ctx context.Context, scratch string) error {
	d, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	ctx = d.in(ctx)
	ids, err := d.sessions(ctx, scratch)
	if err != nil {
		return d.explain(ctx, "listing sessions", err)
	}
	err = session.Sweep(ctx, scratch, func(id string) error { return d.sweep(ctx, id, ids[id]) })
	// Another engine may have swept a session's folder.
	for id, snapshotter := range ids {
		if !alive(scratch, id) {
			err = errors.Join(err, d.sweep(ctx, id, snapshotter))
		}
	}
	return err
}

// sessions are the sessions of scratch that the daemon knows anything of, and those
// of which there is nothing but a task, with their snapshotters.
func (d *daemon) sessions(ctx context.Context, scratch string) (map[string]string, error) {
	ids := map[string]string{}
	tasks, err := d.tasks.List(ctx, &tasksapi.ListTasksRequest{})
	if err != nil {
		return nil, err
	}
	for _, t := range tasks.Tasks {
		if strings.HasPrefix(t.ID, session.Prefix) {
			ids[t.ID] = d.Snapshotter
		}
	}
	containers, err := d.containers.List(ctx, &containersapi.ListContainersRequest{})
	if err != nil {
		return nil, err
	}
	for _, c := range containers.Containers {
		switch c.Labels[labelScratch] {
		case scratch:
			ids[c.ID] = c.Snapshotter
		default:
			delete(ids, c.ID)
		}
	}
	filter := []string{fmt.Sprintf("labels.%q==%q", labelScratch, scratch)}
	leases, err := d.leases.List(ctx, &leasesapi.ListRequest{Filters: filter})
	if err != nil {
		return nil, err
	}
	for _, l := range leases.Leases {
		ids[l.ID] = cmp.Or(ids[l.ID], d.Snapshotter)
	}
	list, err := d.snapshots.List(ctx, &snapshotsapi.ListSnapshotsRequest{Snapshotter: d.Snapshotter, Filters: filter})
	if err != nil {
		return nil, err
	}
	for {
		resp, err := list.Recv()
		if err != nil {
			break // the end; or no such snapshotter, which a session tells better
		}
		for _, s := range resp.Info {
			ids[s.Name] = d.Snapshotter
		}
	}
	return ids, nil
}

// alive reports whether a process has the session: it holds its lock.
func alive(scratch, id string) bool {
	f, err := os.Open(filepath.Join(scratch, id+".lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// sweep removes what the daemon has of a session whose process is gone, or did not see
// its task start. The daemon may still be starting that: whatever runs or is mounted
// there has the session's name.
func (d *daemon) sweep(ctx context.Context, id, snapshotter string) error {
	told := map[int]time.Time{}
	begun := time.Now()
	for pause := time.Millisecond; named(id, time.Since(begun) > session.Grace, told); pause = min(2*pause, 100*time.Millisecond) {
		if ctx.Err() != nil || time.Since(begun) > patience {
			break
		}
		d.endTask(ctx, id) //nolint:errcheck // remove tells what stays
		time.Sleep(pause)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	state := filepath.Join(runcRoot, d.Namespace, id) // of a runc that was killed on its way
	return errors.Join(d.remove(ctx, id, snapshotter), os.RemoveAll(state))
}

// named reports whether this machine has a mount or a process of that session's name.
// A shim that the daemon has forgotten, which shows in its folder being gone, or any
// process where it is late, is told to end, and after a second made to: before it
// serves, a shim ignores SIGTERM, and it never gets there when its log has no reader.
func named(id string, late bool, told map[int]time.Time) bool {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	found := bytes.Contains(mounts, []byte(id))
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range commands {
		text, _ := os.ReadFile(c)
		shim := bytes.Contains(text, []byte("\x00-id\x00"+id+"\x00"))
		runc := bytes.Contains(text, []byte("\x00"+runcRoot+"/")) && bytes.HasSuffix(text, []byte("\x00"+id+"\x00"))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(c)))
		if !shim && !runc || err != nil {
			continue
		}
		found = true
		bundle, _ := os.Readlink(filepath.Join(filepath.Dir(c), "cwd"))
		if !late && !strings.HasSuffix(bundle, id+" (deleted)") {
			continue
		}
		sig := unix.SIGTERM
		if since, ok := told[pid]; !ok {
			told[pid] = time.Now()
		} else if time.Since(since) > time.Second {
			sig = unix.SIGKILL
		}
		unix.Kill(pid, sig) //nolint:errcheck // it may be gone
	}
	return found
}

// remove removes what the daemon has of a session. Its processes are gone, or were
// told to. A task that stays keeps its container, without which the daemon knows
// nothing of it.
func (d *daemon) remove(ctx context.Context, id, snapshotter string) error {
	ctx = context.WithoutCancel(ctx)
	if err := d.removeTask(ctx, id); err != nil {
		return d.fail("removing the task "+id, err, "")
	}
	var errs []error
	if _, err := d.containers.Delete(ctx, &containersapi.DeleteContainerRequest{ID: id}); err != nil && !notFound(err) {
		errs = append(errs, err)
	}
	for _, key := range []string{id, id + "-unpack"} {
		if err := d.removeSnapshot(ctx, snapshotter, key); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := d.leases.Delete(ctx, &leasesapi.DeleteRequest{ID: id}); err != nil && !notFound(err) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return d.fail("removing the container "+id, err, "")
	}
	return session.RemoveCgroup(id) // where the runtime was stopped on its way
}

// removeTask removes a session's task as soon as it has ended. A daemon that is busy
// gives many errors for a task that is on its way to or from being.
func (d *daemon) removeTask(ctx context.Context, id string) error {
	deadline := time.Now().Add(patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := d.endTask(ctx, id)
		if err == nil || errdefs.IsUnavailable(native(err)) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// endTask removes a session's task where that has ended, and else tells it to end.
func (d *daemon) endTask(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, session.Grace)
	defer cancel()
	_, err := d.tasks.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: id})
	if err == nil || notFound(err) {
		return nil
	}
	d.tasks.Kill(ctx, &tasksapi.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: true}) //nolint:errcheck // it may be gone
	return err
}

func (d *daemon) removeSnapshot(ctx context.Context, snapshotter, key string) error {
	_, err := d.snapshots.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{Snapshotter: cmp.Or(snapshotter, d.Snapshotter), Key: key})
	if err != nil && !notFound(err) {
		return err
	}
	return nil
}
