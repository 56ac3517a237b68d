package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
	"golang.org/x/sys/unix"
)

// elsewhere mounts the overlay with an upper folder in another place, where the one
// of the session can't be it: on NFS, or on an overlay, as in most containers. A
// folder on this machine's disk comes first, then memory, which can always be.
func (s *running) elsewhere(spec runtime.Spec) error {
	place := ""
	if dir, err := ownTemporary(true); err == nil {
		if s.other, err = session.NewFolder(dir); err != nil {
			return err
		}
		switch err := s.mountOverlay(spec, s.other.Dir); {
		case err == nil:
			place = dir
		case !refused(err):
			return err
		}
	}
	if place == "" {
		place = "memory"
		dir := s.Path("memory")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mounting a tmpfs: %w", err)
		}
		if err := s.mountOverlay(spec, dir); err != nil {
			return err
		}
	}
	s.notes = append(s.notes, "the file system of "+spec.Scratch+
		" can't be the upper layer of an overlay: what this session changes is kept in "+place)
	return nil
}

// ownTemporary is a folder of the user's in /var/tmp. What another user put there
// under its name is not taken.
func ownTemporary(create bool) (string, error) {
	dir := filepath.Join("/var/tmp", fmt.Sprintf("stead-%d", os.Getuid()))
	if create {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || st.Uid != uint32(os.Getuid()) || info.Mode().Perm()&0o077 != 0 {
		return "", &runtime.Error{Op: "using " + dir, Code: runtime.CodeEngine, Err: errors.New("it isn't yours alone")}
	}
	return dir, nil
}

// sweepElsewhere clears what killed sessions left in the user's temporary folder.
func sweepElsewhere(ctx context.Context) error {
	dir, err := ownTemporary(false)
	if err != nil {
		return nil // there is none of ours
	}
	return session.Sweep(ctx, dir, nil)
}
