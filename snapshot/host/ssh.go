package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sshConnection runs commands through one connection of the user's own ssh, whose
// configuration decides on everything but what is set here. The connection is a process
// of ours, so that it ends with us.
type sshConnection struct {
	user, host, port string
	terminal         bool   // somebody can answer questions
	dir              string // of the socket, private

	mu     sync.Mutex
	master *exec.Cmd
	ended  chan struct{} // closed when the master is
	said   *lines        // by the master
	before bool          // there was a connection already
}

// parseSSH takes an address apart: ssh://[user@]host[:port]. A host or user may be
// anything that an ssh configuration knows, but no option and nothing that a shell would
// take for more than a word: configurations put them into commands.
func parseSSH(address string) (*sshConnection, error) {
	bad := func(why string) error { return fmt.Errorf("opening host %s: %s", address, why) }
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "ssh" || u.Opaque != "" {
		return nil, bad("it is not of the form ssh://user@host:port")
	}
	_, password := u.User.Password()
	switch {
	case u.Hostname() == "":
		return nil, bad("it names no host")
	case password:
		return nil, bad("a password doesn't belong into an address")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, bad("nothing may come after the host and its port")
	}
	c := &sshConnection{user: u.User.Username(), host: u.Hostname(), port: u.Port()}
	for _, word := range []string{c.user, c.host} {
		if strings.HasPrefix(word, "-") || strings.ContainsFunc(word, notInName) {
			return nil, bad(fmt.Sprintf("%q is no name of a host or a user", word))
		}
	}
	if n, err := strconv.Atoi(c.port); c.port != "" && (err != nil || n < 1 || n > 65535) {
		return nil, bad("its port is none")
	}
	return c, nil
}

func notInName(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("'\"`$\\;&|<>(){}[]*?!#~/,", r)
}

// address is the canonical form.
func (c *sshConnection) address() string {
	s := c.host
	if strings.Contains(s, ":") {
		s = "[" + s + "]"
	}
	if c.port != "" {
		s += ":" + c.port
	}
	if c.user != "" {
		s = c.user + "@" + s
	}
	return "ssh://" + s
}

// options are those of every call.
func (c *sshConnection) options(socket string) []string {
	args := []string{"-T", "-a", "-x", "-o", "ControlPath=" + socket, "-o", "RemoteCommand=none",
		"-o", "PermitLocalCommand=no", "-o", "ClearAllForwardings=yes"}
	if c.port != "" {
		args = append(args, "-p", c.port)
	}
	if c.user != "" {
		args = append(args, "-l", c.user)
	}
	return args
}

func (c *sshConnection) socket() string { return filepath.Join(c.dir, "s") }

// masterArgs make the connection.
func (c *sshConnection) masterArgs(socket string) []string {
	args := append(c.options(socket), "-n", "-N", "-o", "ControlMaster=yes", "-o", "ControlPersist=no",
		"-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
	if !c.terminal {
		args = append(args, "-o", "BatchMode=yes")
	}
	return append(args, "--", c.host)
}

// commandArgs run a command through it, and never through another one: where there is
// none any more, the proxy fails.
func (c *sshConnection) commandArgs(socket, line string) []string {
	return append(c.options(socket), "-o", "ControlMaster=no", "-o", "BatchMode=yes", "-o", "ProxyJump=none",
		"-o", "ProxyCommand=false", "--", c.host, line)
}

func (c *sshConnection) command(ctx context.Context, t tools, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ssh", c.commandArgs(c.socket(), t.commandLine(script))...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// connect starts the connection unless it is there.
func (c *sshConnection) connect(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alive() {
		return nil
	}
	if c.dir == "" {
		dir, err := socketDir()
		if err != nil {
			return err
		}
		c.dir = dir
	}
	_ = os.Remove(c.socket())
	c.said, c.ended = &lines{}, make(chan struct{})
	c.master = exec.Command("ssh", c.masterArgs(c.socket())...)
	c.master.Stderr, c.master.WaitDelay = c.said, time.Second
	c.master.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // it must not outlive us
	if err := c.master.Start(); err != nil {
		c.master = nil
		return &ConnectError{c.address(), err.Error()}
	}
	go func() {
		_ = c.master.Wait()
		c.said.end()
		close(c.ended)
	}()
	for {
		if _, err := os.Lstat(c.socket()); err == nil {
			c.before = true
			return nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			c.stop()
			return ctx.Err()
		case <-c.ended:
			err := error(&ConnectError{c.address(), c.said.last})
			if c.before {
				err = &lostError{err}
			}
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// maxSocket is what ssh can make of a socket's path: sun_path less its own suffix.
const maxSocket = 108 - 20

// socketDir makes a private folder whose path is short enough for a socket.
func socketDir() (string, error) {
	dir, err := os.MkdirTemp("", "stead-ssh-")
	if err == nil && len(dir)+2 > maxSocket {
		_ = os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "stead-ssh-")
	}
	return dir, err
}

func (c *sshConnection) alive() bool {
	if c.master == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// stop ends the connection; c.mu is held.
func (c *sshConnection) stop() {
	if !c.alive() {
		return
	}
	_ = c.master.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(maxWait):
		_ = c.master.Process.Kill()
		<-c.ended
	}
}

// Close ends the connection.
func (c *sshConnection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// failed tells the end of the connection from that of a command: ssh's own exit code is
// 255 (ssh(1)).
func (c *sshConnection) failed(err error, complaint string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return &ConnectError{c.address(), strings.TrimSpace(err.Error() + " " + complaint)}
	}
	if exit.ExitCode() != 255 {
		return fmt.Errorf("running a command on %s: %s", c.address(), endOf(exit, complaint))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.alive() && c.said != nil && c.said.last != "" {
		complaint = c.said.last
	}
	return &lostError{&ConnectError{c.address(), complaint}}
}

// endOf says how a command ended.
func endOf(exit *exec.ExitError, complaint string) string {
	if complaint == "" {
		return exit.String()
	}
	return fmt.Sprintf("%s: %s", exit, complaint)
}

// ConnectError says that a host can't be reached, in ssh's own words.
type ConnectError struct{ Address, Message string }

func (e *ConnectError) Error() string {
	if e.Message == "" {
		return "connecting to " + e.Address + ": the connection broke off"
	}
	return "connecting to " + e.Address + ": " + e.Message
}

// hints are what helps, by what ssh says.
var hints = []struct{ said, hint string }{
	{"Host key verification failed", "connect once with ssh itself, and compare the host's key with what its administrators say"},
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", "the host has another key than it had: ask its administrators before going on"},
	{"Permission denied", "does ssh itself get in? a key in the agent or in ~/.ssh/config is needed, and the user in the address"},
	{"Too many authentication failures", "name the key for this host with IdentityFile and IdentitiesOnly in ~/.ssh/config"},
	{"Could not resolve hostname", "is the name right? ~/.ssh/config may hold an alias and a jump host"},
	{"No route to host", "is the network, or the VPN to it, up? ~/.ssh/config may name a jump host"},
	{"Network is unreachable", "is the network, or the VPN to it, up?"},
	{"Connection refused", "does sshd listen there, on this port? ssh://user@host:port names another"},
	{"timed out", "is a firewall in the way? ~/.ssh/config may name a jump host"},
	{"executable file not found", "install ssh (openssh-client)"},
}

// Hint says what helps.
func (e *ConnectError) Hint() string {
	i := slices.IndexFunc(hints, func(h struct{ said, hint string }) bool { return strings.Contains(e.Message, h.said) })
	if i < 0 {
		return ""
	}
	return hints[i].hint
}
