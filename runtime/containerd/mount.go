package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// prepare makes a snapshot for the session, on the env's image, which it makes where
// the daemon doesn't have it.
func (s *running) prepare(ctx context.Context, spec runtime.Spec) (err error) {
	ctx = s.daemon.in(ctx)
	made := false
	s.image, err = s.daemon.find(ctx, spec)
	if notFound(err) {
		made = true
		s.image, err = s.daemon.make(ctx, spec, s.ID)
	}
	if err == nil {
		s.mounts, err = s.snapshot(ctx, spec)
	}
	if notFound(err) && !made {
		// The image is there, but not for this snapshotter; or not all of it.
		err = s.daemon.again(ctx, spec, s.image, s.ID)
		if notFound(err) {
			made = true
			s.image, err = s.daemon.make(ctx, spec, s.ID)
		}
		if err == nil {
			s.mounts, err = s.snapshot(ctx, spec)
		}
	}
	if err != nil {
		return s.daemon.explain(ctx, "preparing "+spec.Name+" in containerd", err)
	}
	if made {
		s.notes = append(s.notes, fmt.Sprintf("made the image %s in containerd's namespace %s", s.image.name, s.daemon.Namespace))
	}
	return s.layers(spec)
}

// snapshot makes the session's own snapshot.
func (s *running) snapshot(ctx context.Context, spec runtime.Spec) ([]*types.Mount, error) {
	ctx, cancel := linger(ctx)
	defer cancel()
	resp, err := s.daemon.snapshots.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{
		Snapshotter: s.daemon.Snapshotter, Key: s.ID, Parent: s.image.layer.String(),
		// Nothing else needs it before there is a container.
		Labels: map[string]string{labelScratch: spec.Scratch, gcRoot: "stead"}})
	if err != nil {
		return nil, err
	}
	return resp.Mounts, nil
}

// layers puts the session's own layers above the snapshot's: what the snapshotter
// gave is an overlay, which takes others, and another upper folder.
func (s *running) layers(spec runtime.Spec) error {
	overlay := len(s.mounts) == 1 && s.mounts[0].Type == "overlay"
	if !overlay {
		if spec.Upper != "" || len(spec.Lower) > 0 {
			return &runtime.Error{Op: "mounting " + spec.Name, Code: runtime.CodeEngine,
				Err:    fmt.Errorf("containerd's snapshotter %s takes no layers from elsewhere", s.daemon.Snapshotter),
				Remedy: "use its snapshotter overlayfs, " + embedded}
		}
		return nil
	}
	options := slices.Clone(s.mounts[0].Options)
	for i, option := range options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "lowerdir":
			for _, l := range slices.Backward(spec.Lower) {
				value = session.EscapeOption(l, `\:,`) + ":" + value
			}
			options[i] = "lowerdir=" + value
		case "upperdir":
			s.upper = value
			if spec.Upper != "" {
				s.upper = filepath.Join(spec.Upper, "upper")
				options[i] = "upperdir=" + session.EscapeOption(s.upper, `\,`)
			}
		case "workdir":
			s.work = value
			if spec.Upper != "" {
				s.work = filepath.Join(spec.Upper, "work")
				options[i] = "workdir=" + session.EscapeOption(s.work, `\,`)
			}
		}
	}
	if s.upper == "" || s.work == "" {
		return fmt.Errorf("containerd's snapshotter %s gave an overlay without a folder to write to", s.daemon.Snapshotter)
	}
	if spec.Upper != "" && !slices.Contains(options, "index=off") {
		if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
			options = append(options, "index=off") // an index ties a kept upper to one lower
		}
	}
	// The daemon shortens longer ones in ways that need its own layers.
	if n := len(strings.Join(options, ",")); n >= os.Getpagesize()-512 {
		return &runtime.Error{Op: "mounting " + spec.Name, Code: runtime.CodeEngine,
			Err: fmt.Errorf("the layers' paths take %d bytes, more than mount(2) does", n)}
	}
	for _, dir := range []string{s.upper, s.work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := session.LikeRoot(s.upper, spec.Root); err != nil {
		return err
	}
	s.mounts = []*types.Mount{{Type: "overlay", Source: "overlay", Options: options}}
	return nil
}

// mountHere mounts the session's snapshot in the calling thread's mount namespace.
// Nothing of a fresh upper folder outlives the session, and "volatile" (Linux 5.10)
// spares syncing the whole file system when it is unmounted; the daemon is asked for
// the same.
func (s *running) mountHere(spec runtime.Spec, dir string) (unmount func() error, err error) {
	mounts := convert(s.mounts)
	if s.upper != "" && spec.Upper == "" {
		quick := mounts[0]
		quick.Options = append(slices.Clone(quick.Options), "volatile")
		if err := quick.Mount(dir); err == nil {
			s.mounts[0].Options = quick.Options
			return func() error {
				err := unmountAt(dir)
				// The mark of a volatile upper folder, which keeps it from being mounted again.
				return errors.Join(err, os.RemoveAll(filepath.Join(s.work, "work", "incompat")))
			}, nil
		} else if !errors.Is(err, unix.EINVAL) {
			return nil, err
		}
	}
	if err := mount.All(mounts, dir); err != nil {
		if spec.Upper != "" && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)) {
			return nil, &runtime.Error{Op: "mounting a session on " + spec.Upper, Code: runtime.CodeEngine, Err: err,
				Remedy: "its file system can't be the upper layer of an overlay; keep the session on a local disk"}
		}
		return nil, err
	}
	return func() error { return unmountAt(dir) }, nil
}

// unmountAt unmounts what is busy for a moment when another thread has just forked.
func unmountAt(dir string) (err error) {
	for range 100 {
		if err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != unix.EBUSY {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
}

func convert(list []*types.Mount) (mounts []mount.Mount) {
	for _, m := range list {
		mounts = append(mounts, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return mounts
}
