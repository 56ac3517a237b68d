package main

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ci is a container as CI systems start it: root with the default capabilities and the
// default system call filter of the field, and with no network.
type ci struct {
	*real
	root, bundle string
	name         string // runc's, which are the machine's
}

// newCI makes a container of a root filesystem, with stead in it.
func newCI(r *real, from string) *ci {
	r.t.Helper()
	c := &ci{real: r, root: r.path("ci"), bundle: r.path("bundle"),
		name: "stead-ci-" + strings.ToLower(rand.Text()[:10])}
	r.must(exec.Command("cp", "-a", from, c.root))
	program(r.t, "stead-static", filepath.Join(c.root, "usr", "bin", "stead"))
	for _, dir := range []string{c.bundle, filepath.Join(c.root, "src", "app")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	return c
}

// write writes a file of the container.
func (c *ci) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.root, name), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *ci) read(name string) string {
	text, err := os.ReadFile(filepath.Join(c.root, name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// command runs a command in the container's project.
func (c *ci) command(args ...string) (stdout, stderr string, code int) {
	c.t.Helper()
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID " +
		"CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	mount := func(at, kind string, options ...string) specs.Mount {
		return specs.Mount{Destination: at, Type: kind, Source: kind, Options: options}
	}
	s := &specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: c.root}, Hostname: "ci",
		Process: &specs.Process{Args: args, Cwd: "/src/app",
			Env:          []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root", "STEAD_FLEET=/fleet", "STEAD_STORE=/store"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Mounts: []specs.Mount{mount("/proc", "proc"), mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
			mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro")},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
	var err error
	if s.Linux.Seccomp, err = seccomp.GetDefaultProfile(s); err != nil {
		c.t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.bundle, "config.json"), text, 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}

	return result(exec.CommandContext(c.t.Context(), "runc", "--root", c.path("runc"), "run", "--bundle", c.bundle, c.name))
}

// In a CI container, which allows neither mounts nor user namespaces, run and build
// work on a copy, and say so.
func TestInCI(t *testing.T) {
	t.Parallel()
	r := realTools(t)
	made := strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", "userlands")))
	host := filepath.Join(made, "bookworm")
	r.must(r.command("fleet", "one", "snapshot", host, "acme", "--yes"))
	r.must(r.command("fleet", "one", "snapshot", host, "globex", "--yes"))
	r.pull("one")
	c := newCI(r, host)
	r.must(exec.Command("cp", "-a", r.path("fleet"), filepath.Join(c.root, "fleet")))
	r.must(exec.Command("cp", "-a", r.path("one"), filepath.Join(c.root, "store")))
	c.write("src/app/stead.toml", "fleet = \"/fleet\"\ntargets = [\"acme\"]\n[build]\ncommand = [\"sh\", \"build\"]\nartifacts = [\"out/app\"]\n")
	c.write("src/app/build", "set -e\nmkdir -p out\ncp /etc/debian_version out/app\ncat /dev/null\necho built >&2\necho spoilt >/etc/debian_version\n")

	if _, errs, code := c.command("unshare", "-m", "true"); code == 0 || !strings.Contains(errs, "not permitted") {
		t.Fatalf("the container allows mounts: %s", errs)
	}
	if _, errs, code := c.command("unshare", "-U", "true"); code == 0 || !strings.Contains(errs, "not permitted") {
		t.Fatalf("the container allows user namespaces: %s", errs)
	}
	const note = "note: no mounts and no user namespaces are allowed here: taking the chroot engine"
	out, errs, code := c.command("stead", "run", "acme", "--", "sh", "-c", "pwd; id -u; echo in >made; rm -rf /usr/share /etc/passwd; (sleep 600 &); exit 7")
	if code != 7 || out != "/src/app\n0\n" || strings.Count(errs, note) != 1 || strings.Contains(errs, "error") {
		t.Errorf("run: exit code %d, wrote %q\n%s", code, out, errs)
	}
	if text := c.read("src/app/made"); text != "in\n" {
		t.Errorf("what the command made is %q", text)
	}
	for range 2 {
		out, errs, code = c.command("stead", "build")
		if code != 0 || !strings.HasPrefix(out, "acme@1: 1 artifact,") || !strings.Contains(errs, "built") || strings.Count(errs, note) != 1 {
			t.Errorf("build: exit code %d, wrote %q\n%s", code, out, errs)
		}
		if got, want := c.read("src/app/dist/acme/app"), r.must(exec.Command("cat", filepath.Join(host, "etc/debian_version"))); got != want {
			t.Errorf("the artifact is %q, want %q", got, want)
		}
	}
	if _, errs, code = c.command("stead", "enter"); code != 125 || !strings.Contains(errs, "hint: stead enter --engine chroot") {
		t.Errorf("enter: exit code %d\n%s", code, errs)
	}
	var answer diagnosis
	if out, errs, code = c.command("stead", "doctor", "--json"); code != 0 || json.Unmarshal([]byte(out), &answer) != nil || answer.Taken != "chroot" {
		t.Errorf("doctor: exit code %d\n%s%s", code, out, errs)
	}
	if _, errs, code = c.command("stead", "fsck", "acme"); code != 0 {
		t.Errorf("what commands wrote reached the env: exit code %d\n%s", code, errs)
	}
	if left, err := os.ReadDir(filepath.Join(c.root, "store", "sessions")); err != nil || len(left) != 0 {
		t.Errorf("sessions left %v, %v", left, err)
	}
	t.Run("recipes", func(t *testing.T) { testRecipes(t, c) })
}
