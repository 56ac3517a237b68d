package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
	"golang.org/x/sys/unix"
)

// overlay mounts the writable view of a root filesystem on s.root, in the calling
// thread's mount namespace. s.upper is where its changes are afterwards.
func (s *running) overlay(spec runtime.Spec) error {
	dir := s.Dir
	if spec.Upper != "" {
		dir = spec.Upper
	}
	err := s.mountOverlay(spec, dir)
	if err == nil || !refused(err) {
		return err
	}
	if spec.Upper != "" {
		return &runtime.Error{Op: "mounting a session on " + spec.Upper, Code: runtime.CodeEngine, Err: err,
			Remedy: "its file system can't be the upper layer of an overlay; STEAD_STORE=FOLDER names a store on a local disk"}
	}
	return s.elsewhere(spec)
}

// refused reports whether the kernel would not take the upper folder.
func refused(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

func (s *running) mountOverlay(spec runtime.Spec, dir string) error {
	s.upper = filepath.Join(dir, "upper")
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	// A new upper folder is the top of the root: its mode is that of /.
	err := os.Mkdir(s.upper, 0o755)
	if err == nil {
		err = session.LikeRoot(s.upper, spec.Root)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	lower := make([]string, 0, len(spec.Lower)+1)
	for _, l := range append(spec.Lower[:len(spec.Lower):len(spec.Lower)], spec.Root) {
		lower = append(lower, session.EscapeOption(l, `\:,`))
	}
	options := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + session.EscapeOption(s.upper, `\,`) +
		",workdir=" + session.EscapeOption(work, `\,`)
	if _, err := os.Stat(parameters + "index"); err == nil {
		options += ",index=off" // an index ties a kept upper to one lower
	}
	for _, name := range []string{"redirect_dir", "metacopy"} {
		// With these an upper folder can't be told without the kernel.
		if value, err := os.ReadFile(parameters + name); err == nil && strings.HasPrefix(string(value), "Y") {
			options += "," + name + "=off"
		}
	}
	if standsOn() != machine {
		options += ",userxattr"
	}
	if len(options) >= os.Getpagesize() {
		return &runtime.Error{Op: "mounting " + spec.Root, Code: runtime.CodeEngine,
			Err: fmt.Errorf("the layers' paths take %d bytes, more than mount(2) does", len(options))}
	}
	// Nothing of a fresh upper outlives the session: "volatile" (Linux 5.10) spares
	// the syncs. It marks a kept one as not to be mounted again.
	err = unix.EINVAL
	if spec.Upper == "" {
		err = unix.Mount("overlay", s.root, "overlay", 0, options+",volatile")
	}
	if err == unix.EINVAL {
		err = unix.Mount("overlay", s.root, "overlay", 0, options)
	}
	if err != nil {
		return fmt.Errorf("mounting an overlay of %s: %w", spec.Root, err)
	}
	return nil
}

// parameters are what the overlays of this machine are like where no option says else.
const parameters = "/sys/module/overlay/parameters/"
