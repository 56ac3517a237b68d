package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime/containerd/containerdtest"
)

// A production host's env in a containerd: chosen in each way there is, made there once
// and exactly, and removed with its root.
func TestContainerd(t *testing.T) {
	r := realHost(t) // not beside others: the daemon's address is in the environment
	d := containerdtest.Start(t)
	r.must(r.command("fleet", "one", "snapshot", r.host, "acme", "--yes"))
	stdout, errs, code := result(r.command("fleet", "one", "run", "--engine", "containerd", "acme", "--", "sh", "-c", "cat /etc/debian_version; pwd; exit 6"))
	if code != 6 || !strings.HasPrefix(stdout, "11.") || !strings.Contains(stdout, r.path("project")) {
		t.Errorf("exit code %d, wrote %q\n%s", code, stdout, errs)
	}
	image := strings.TrimSpace(d.Ctr(t, "images", "ls", "-q"))
	if !strings.HasPrefix(image, "localhost/stead/acme:1-") || !strings.Contains(errs, image) {
		t.Errorf("image %q; it said\n%s", image, errs)
	}
	r.must(exec.Command(r.exact, "-secrets", filepath.Join(r.made, "SECRETS"), r.host,
		d.Path("root/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs")))

	cmd := r.command("fleet", "one", "run", "--session", "kept", "acme", "--", "sh", "-c", "echo one >>/etc/kept; rm /etc/issue")
	cmd.Env = append(cmd.Env, "STEAD_ENGINE=containerd")
	if _, errs, code := result(cmd); code != 0 || strings.Contains(errs, image) {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if out := r.must(r.command("fleet", "one", "run", "--session", "kept", "--", "sh", "-c", "cat /etc/kept; ls /etc/issue || echo gone")); out != "one\ngone\n" {
		t.Errorf("the kept session has %q", out)
	}
	if out := r.must(r.command("fleet", "one", "run", "acme", "--", "cat", "/etc/issue")); !strings.Contains(out, "Debian") {
		t.Errorf("another session sees %q", out)
	}
	d.Empty(t)

	testConfiguredContainerd(r, d, image)
	testCollectedImages(r, d, image)
}

// testConfiguredContainerd takes the daemon and its namespace from the configuration.
func testConfiguredContainerd(r *real, d *containerdtest.Daemon, image string) {
	t := r.t
	t.Helper()
	file := r.path("home", ".config", "stead", "config.toml")
	err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("engine = \"containerd\"\n[containerd]\naddress = \"/nonexistent/socket\"\nnamespace = \"mine\"\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	cmd := r.command("fleet", "one", "run", "acme", "--", "true")
	cmd.Env = append(cmd.Env, "HOME="+r.path("home"), "XDG_CONFIG_HOME=")
	r.must(cmd)
	if out := d.Ctr(t, "--namespace", "mine", "images", "ls", "-q"); strings.TrimSpace(out) != image {
		t.Errorf("in the configuration's namespace there is %q", out)
	}
	cmd = r.command("fleet", "one", "run", "acme", "--", "true")
	cmd.Env = append(cmd.Env, "HOME="+r.path("home"), "XDG_CONFIG_HOME=", "CONTAINERD_ADDRESS=")
	if _, errs, code := result(cmd); code != 125 || !strings.Contains(errs, "/nonexistent/socket") || !strings.Contains(errs, "hint: start it") {
		t.Errorf("with no socket: exit code %d, %s", code, errs)
	}
}

// testCollectedImages removes the image with its root, not before.
func testCollectedImages(r *real, d *containerdtest.Daemon, image string) {
	t := r.t
	t.Helper()
	r.must(r.command("fleet", "one", "gc"))
	if out := d.Ctr(t, "images", "ls", "-q"); strings.TrimSpace(out) != image {
		t.Errorf("gc left the images %q", out)
	}
	if err := os.RemoveAll(r.path("one", "roots")); err != nil {
		t.Fatal(err)
	}
	_, errs, _ := result(r.command("fleet", "one", "gc", "--dry-run"))
	if !strings.Contains(errs, "would remove containerd's image "+image) {
		t.Errorf("gc --dry-run said %q", errs)
	}
	r.must(r.command("fleet", "one", "gc"))
	if out := d.Ctr(t, "images", "ls", "-q"); out != "" {
		t.Errorf("gc left the images %q", out)
	}
}
