package hosttest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// SSHD is a server of a test's own, on the loopback, with its own keys.
type SSHD struct {
	Dir, Port string
	log       bytes.Buffer
}

const sshdPath = "/usr/sbin/sshd"

// StartSSHD starts a server that lets the user root in; config is added to its own. The
// ssh first in PATH then knows it, as prod too, and nothing of whoever runs the test.
func StartSSHD(t testing.TB, config ...string) *SSHD {
	t.Helper()
	s := StartSSHDAside(t, config...)
	switch t := t.(type) {
	case *testing.T:
		t.Setenv("PATH", s.Path())
	case *testing.B:
		t.Setenv("PATH", s.Path())
	}
	return s
}

// StartSSHDAside is StartSSHD for tests that run at once: PATH stays as it is.
func StartSSHDAside(t testing.TB, config ...string) *SSHD {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("sshd needs root to let root in")
	}
	if _, err := os.Stat(sshdPath); err != nil {
		t.Skipf("%v: see .ci/setup", err)
	}
	s := &SSHD{Dir: t.TempDir(), Port: freePort(t)}
	for _, key := range []string{"host", "user"} {
		run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.path(key))
	}
	hostKey, err := os.ReadFile(s.path("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.path("known_hosts"), fmt.Sprintf("[127.0.0.1]:%s %s", s.Port, hostKey))
	write(t, s.path("sshd_config"), strings.Join(append(config, // of each setting the first counts
		"ListenAddress 127.0.0.1", "Port "+s.Port, "HostKey "+s.path("host"), "PidFile none", "UsePAM no",
		"AuthorizedKeysFile "+s.path("user.pub"), "StrictModes no", "PermitRootLogin prohibit-password",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PrintMotd no", "LogLevel VERBOSE"), "\n")+"\n")
	s.Through(t, s.Port)
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // its empty folder, which a service manager makes
		t.Fatal(err)
	}
	cmd := exec.Command(sshdPath, "-D", "-e", "-f", s.path("sshd_config"))
	cmd.Stderr = &s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", s.log.String())
		}
	})
	waitFor(t, s.Port)
	return s
}

// Through makes ssh reach the server as prod through a port.
func (s *SSHD) Through(t testing.TB, port string) {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip(err)
	}
	if filepath.Dir(ssh) == s.path("bin") {
		ssh = "/usr/bin/ssh"
	}
	write(t, s.path("ssh_config"), strings.Join([]string{"Host *", "IdentityFile " + s.path("user"), "IdentitiesOnly yes",
		"IdentityAgent none", "UserKnownHostsFile " + s.path("known_hosts"), "GlobalKnownHostsFile none",
		"HostKeyAlias [127.0.0.1]:" + s.Port, "StrictHostKeyChecking yes",
		"Host prod", "HostName 127.0.0.1", "User root", "Port " + port}, "\n")+"\n")
	if err := os.MkdirAll(s.path("bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s.path("bin/ssh"), fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, s.path("ssh_config")))
	if err := os.Chmod(s.path("bin/ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Path is what PATH has to be for its ssh to be the first.
func (s *SSHD) Path() string { return s.path("bin") + ":" + os.Getenv("PATH") }

func (s *SSHD) path(name string) string { return filepath.Join(s.Dir, name) }

// Address is how the server is reached.
func (s *SSHD) Address() string { return "ssh://root@127.0.0.1:" + s.Port }

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func waitFor(t testing.TB, port string) {
	t.Helper()
	for range 500 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nothing listens")
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
