package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The program is carried to a machine on which there is nothing else.
func TestCheckAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may change the root")
	}
	root := t.TempDir()
	program(t, "stead-static", filepath.Join(root, "stead"))
	if err := os.WriteFile(filepath.Join(root, "run"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		code int
		text string
	}{
		"/stead": {0, "/stead starts on /\n"},
		"/run":   {exitNegative, "/run fails on /\n  run is interpreted by /bin/sh, which / hasn't\n"},
	} {
		cmd := exec.Command("/stead", "check", name, "--for", "/")
		cmd.Dir, cmd.Env = "/", []string{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		out, _ := cmd.Output()
		if code := cmd.ProcessState.ExitCode(); code != want.code || string(out) != want.text {
			t.Errorf("check %s: %d, %q; want %d, %q", name, code, out, want.code, want.text)
		}
	}
}
