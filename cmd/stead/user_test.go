package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stead-env/stead/envs/lock"
)

// Who can't start a session is told so before hundreds of megabytes are fetched
// for it.
func TestRunAsSomebody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming somebody else takes root")
	}
	dir, err := os.MkdirTemp("", "stead-somebody-") // everybody may go there
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &lock.Lock{Version: lock.Version, Release: lock.Release{Target: "acme", Number: 1, Origin: lock.Observed},
		Packages: []lock.Package{{Name: "hello", Version: "1", Architecture: "amd64", Size: 1, SHA256: strings.Repeat("a", 64), Proof: lock.Repacked}},
		Delta:    lock.Delta{SHA256: strings.Repeat("d", 64), Size: 1}, Rootfs: lock.Rootfs{Digest: "tree1:sha256:" + strings.Repeat("e", 64)}}
	program, err := os.ReadFile(self)
	err = errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "stead"), program, 0o755),
		os.MkdirAll(filepath.Join(dir, "fleet", "acme"), 0o755), os.Mkdir(filepath.Join(dir, "home"), 0o777),
		os.Chmod(filepath.Join(dir, "home"), 0o777), os.WriteFile(filepath.Join(dir, "fleet", "acme", "1.lock"), l.Write(), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{"run acme -- true": 125, "build acme -- true": 1} {
		cmd := exec.Command(filepath.Join(dir, "stead"), strings.Fields(args)...)
		cmd.Dir = filepath.Join(dir, "home")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "STEAD_FLEET=" + filepath.Join(dir, "fleet")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want || !strings.Contains(string(out), "it needs root\nhint: run as root\n") {
			t.Errorf("%s: exit code %d, %s", args, code, out)
		}
	}
}
