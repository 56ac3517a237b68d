package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime/enginetest"
)

// Userlands of three Debian releases, and one that is a single program without bash,
// sudo or /etc/passwd, can be entered; nothing is installed in them for that.
func TestUserlands(t *testing.T) {
	t.Parallel()
	r := realHost(t)
	made := strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", "userlands")))
	for target, root := range map[string]string{"bullseye": r.host, "bookworm": filepath.Join(made, "bookworm"),
		"trixie": filepath.Join(made, "trixie"), "busybox": filepath.Join(made, "busybox")} {
		r.must(r.command("fleet", "one", "snapshot", root, target, "--yes"))
		cmd := r.command("fleet", "one", "enter", target)
		cmd.Env = append(cmd.Env, "TERM=dumb")
		shell := enginetest.StartTerminal(t, cmd, 24, 80)
		shell.Expect("(" + target + ")") // the prompt
		shell.Write("echo in-$((40+2)) $HOME $(id -u)\n")
		shell.Expect("in-42 /root 0")
		shell.Write("exit 7\n")
		shell.Exit(7)
		if out := r.must(r.command("fleet", "one", "run", target, "--", "sh", "-c", `echo "$USER:$0"`)); out != "root:sh\n" {
			t.Errorf("%s: a command wrote %q", target, out)
		}
	}
}
