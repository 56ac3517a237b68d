package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sudoConnection runs commands on this machine as root, by sudo.
type sudoConnection struct {
	root string
	as   *syscall.SysProcAttr // nil: whoever runs this
}

func (c *sudoConnection) connect(ctx context.Context) error { return ctx.Err() }

func (c *sudoConnection) Close() error { return nil }

// args are a command's: the root is a word of its own, which no shell takes apart.
func (c *sudoConnection) args(t tools, script string) []string {
	return append(t.before(), "sh", "-c", script, "stead", c.root)
}

func (c *sudoConnection) command(ctx context.Context, t tools, script string) *exec.Cmd {
	args := c.args(t, script)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.SysProcAttr = "/", c.as
	// sudo hands on a signal that it may be sent by us: it runs as root.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

func (c *sudoConnection) failed(err error, complaint string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("reading %s by sudo: %w", c.root, err)
	}
	return fmt.Errorf("reading %s by sudo: %s", c.root, endOf(exit, complaint))
}

// CanSudo reports whether sudo makes us root without a password.
func CanSudo(ctx context.Context) bool {
	return exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil
}

// private are the places of a system that only root reads, and those that a snapshot
// can't do without.
var private = []string{".", "etc", "etc/shadow", "etc/ssl/private", "root", "var/lib", "var/lib/dpkg",
	"var/lib/dpkg/status", "var/lib/apt/lists/partial", "var/cache/ldconfig", "usr/lib", "usr/bin"}

// NeedsRoot reports whether the folder of a root holds what we can't read.
func NeedsRoot(root string) bool {
	if os.Geteuid() == 0 {
		return false
	}
	for _, p := range private {
		mode := uint32(unix.R_OK)
		path := filepath.Join(root, p)
		st, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return true
		case err != nil || st.Mode()&fs.ModeSymlink != 0:
			continue
		case st.IsDir():
			mode |= unix.X_OK
		}
		if unix.Access(path, mode) == unix.EACCES {
			return true
		}
	}
	return strings.Trim(root, "/") == ""
}
