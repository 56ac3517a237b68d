// Package chroot is the engine for where neither mounts nor user namespaces are
// allowed, as in most CI containers: a change of root into a copy of the root
// filesystem that is private to the session, with copies of what other engines
// mount, which are brought back at the end. It needs root and no CAP_SYS_ADMIN, and
// isolates from nothing but this machine's files.
package chroot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/session"
)

// Prefix is what this engine's session folders begin with: other engines would
// clear them without looking for processes, or at what was changed.
const Prefix = "stead-chroot-"

// Engine is the chroot engine.
type Engine struct{}

var _ runtime.Engine = (*Engine)(nil)

// New returns the chroot engine.
func New() *Engine { return &Engine{} }

// Name returns "chroot".
func (e *Engine) Name() string { return "chroot" }

// needed are the capabilities that there is no session without.
var needed = []struct {
	name string
	bit  uint
}{
	{"CAP_SYS_CHROOT", unix.CAP_SYS_CHROOT}, {"CAP_CHOWN", unix.CAP_CHOWN}, {"CAP_DAC_OVERRIDE", unix.CAP_DAC_OVERRIDE},
	{"CAP_FOWNER", unix.CAP_FOWNER}, {"CAP_SETUID", unix.CAP_SETUID}, {"CAP_SETGID", unix.CAP_SETGID},
	{"CAP_SETPCAP", unix.CAP_SETPCAP}, {"CAP_KILL", unix.CAP_KILL},
}

// Check reports what is missing.
func (e *Engine) Check(context.Context) error {
	data, err := capabilities()
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range needed {
		if !has(data, c.bit) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	bad := &runtime.Error{Op: "checking the chroot engine", Code: runtime.CodeEngine,
		Err:    fmt.Errorf("this process lacks %s", strings.Join(missing, ", ")),
		Remedy: "give the container its default capabilities, or these: --cap-add " + strings.Join(missing, ",")}
	if os.Geteuid() != 0 {
		bad.Err = errors.New("it needs root, to change the root")
		bad.Remedy = "in a CI container, have the job run as root (docker run --user 0); an ordinary user takes the embedded engine, which needs user namespaces"
	}
	return bad
}

func capabilities() ([2]unix.CapUserData, error) {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return data, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	return data, nil
}

func has(data [2]unix.CapUserData, bit uint) bool { return data[bit/32].Effective&(1<<(bit%32)) != 0 }

// Sweep kills what killed sessions in scratch left running, brings back what they
// changed, and clears their folders.
func (e *Engine) Sweep(ctx context.Context, scratch string) error {
	return session.SweepPrefix(ctx, Prefix, scratch, func(id string) error {
		dir, err := filepath.EvalSymlinks(filepath.Join(scratch, id))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := killInside(dir); err != nil {
			return err
		}
		r, err := readRecord(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // killed before its command was started
		}
		if err != nil {
			return err
		}
		if r.Upper != "" {
			lock, err := session.TakeLock(filepath.Join(r.Upper, "lock"))
			if err != nil {
				return fmt.Errorf("entering the session kept in %s: %w", r.Upper, err)
			}
			defer lock.Close()
		}
		if _, err := r.bringBack(ctx, filepath.Join(dir, "root")); err != nil || r.Upper == "" {
			return err
		}
		_, err = r.changes(ctx, filepath.Join(dir, "root"))
		return err
	})
}
