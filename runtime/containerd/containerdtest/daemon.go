// Package containerdtest starts a containerd for tests: one of the version that stead is
// built with, with folders and a socket of its own.
package containerdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a containerd that a test started.
type Daemon struct {
	programs string // the folder of containerd, its shim and ctr
	Dir      string // its folders
	Socket   string
	command  *exec.Cmd
}

// Start starts one for a test, and names it in the environment for the engine.
func Start(t testing.TB) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a containerd of one's own needs root")
	}
	build := exec.Command(filepath.Join(module(t), ".ci", "containerd"))
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("building containerd: %v", err)
	}
	d := &Daemon{programs: strings.TrimSpace(string(out)), Dir: folder(t)}
	cleanRun(t)
	d.Socket = filepath.Join(d.Dir, "c.sock")
	text := fmt.Sprintf("version = 2\nimports = []\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\",\n"+
		"  \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\"]\n"+
		"[ttrpc]\naddress = %q\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = %q\n",
		d.Socket+".ttrpc", filepath.Join(d.Dir, "opt"))
	must(t, os.WriteFile(d.Path("config.toml"), []byte(text), 0o600))
	d.Start(t)
	t.Cleanup(func() { d.Stop(t) })
	t.Setenv("CONTAINERD_ADDRESS", d.Socket)
	t.Setenv("CONTAINERD_NAMESPACE", "")
	t.Setenv("CONTAINERD_SNAPSHOTTER", "")
	return d
}

// cleanRun removes in the end what containerd's shims leave where their daemon has no
// say: sockets that nobody listens on any more.
func cleanRun(t testing.TB) {
	const sockets = "/run/containerd/s/*"
	before, _ := filepath.Glob(sockets)
	t.Cleanup(func() {
		after, _ := filepath.Glob(sockets)
		for _, socket := range after {
			conn, err := net.Dial("unix", socket)
			if err == nil {
				conn.Close()
			} else if !slices.Contains(before, socket) && errors.Is(err, unix.ECONNREFUSED) {
				os.Remove(socket)
			}
		}
	})
}

// Path is the path of a file in the daemon's folder.
func (d *Daemon) Path(name string) string { return filepath.Join(d.Dir, name) }

// Start starts the daemon and waits until it answers.
func (d *Daemon) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(d.Path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer log.Close()
	d.command = exec.Command(filepath.Join(d.programs, "containerd"), "--config", d.Path("config.toml"), "--address", d.Socket,
		"--root", d.Path("root"), "--state", d.Path("state"))
	d.command.Env = append(os.Environ(), "PATH="+d.programs+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	d.command.Stdout, d.command.Stderr = log, log
	must(t, d.command.Start())
	for range 300 {
		if conn, err := net.Dial("unix", d.Socket); err == nil {
			conn.Close()
			if d.Tool(t.Context(), "version").Run() == nil {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(d.Path("log"))
	t.Fatalf("containerd doesn't start:\n%s", text)
}

// module is the folder of this module.
func module(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

// folder is a short path for sockets and snapshots, on a file system that overlay can
// write to, as the folders of most containers are not.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stead-containerd-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"))
		t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	}
	return dir
}

// Stop ends the daemon, not the sessions in it.
func (d *Daemon) Stop(t testing.TB) {
	must(t, d.command.Process.Signal(unix.SIGTERM))
	timer := time.AfterFunc(20*time.Second, func() { d.command.Process.Kill() })
	defer timer.Stop()
	d.command.Wait()
	if text, err := os.ReadFile(d.Path("log")); err == nil && t.Failed() {
		lines := bytes.Split(text, []byte("\n"))
		t.Logf("containerd said, last:\n%s", bytes.Join(lines[max(0, len(lines)-25):], []byte("\n")))
	}
}

// Tool is a command of containerd's own tool.
func (d *Daemon) Tool(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(d.programs, "ctr"), append([]string{"--address", d.Socket, "--namespace", "stead"}, args...)...)
}

// Ctr runs containerd's own tool.
func (d *Daemon) Ctr(t testing.TB, args ...string) string {
	t.Helper()
	cmd := d.Tool(t.Context(), args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// Empty reports what sessions left in the daemon.
func (d *Daemon) Empty(t testing.TB) {
	t.Helper()
	for _, kind := range []string{"tasks", "containers", "leases"} {
		if out := strings.TrimSpace(d.Ctr(t, kind, "ls", "-q")); out != "" {
			t.Errorf("%s left in the daemon:\n%s", kind, out)
		}
	}
	if out := d.Ctr(t, "snapshots", "ls"); strings.Contains(out, "stead-session") || strings.Contains(out, "Active") {
		t.Errorf("snapshots left in the daemon:\n%s", out)
	}
	var shims []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if shims = d.shims(); len(shims) == 0 {
			break
		}
	}
	if len(shims) > 0 {
		t.Errorf("shims left: %v", shims)
	}
	if out := d.Ctr(t, "content", "active"); strings.Count(out, "\n") > 1 {
		t.Errorf("half-written content left in the daemon:\n%s", out)
	}
}

// shims are the commands of the daemon's shims.
func (d *Daemon) shims() (list []string) {
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range commands {
		text, _ := os.ReadFile(c)
		if words := strings.Split(string(text), "\x00"); filepath.Base(words[0]) == "containerd-shim-runc-v2" && strings.Contains(string(text), d.Socket) {
			list = append(list, strings.Join(words, " "))
		}
	}
	return list
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
