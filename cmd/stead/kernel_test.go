package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/snapshot"
)

// What a live host's kernel can do is in its lock, whoever reads it, and sessions find it
// so.
func TestTargetKernel(t *testing.T) {
	t.Parallel()
	r := realTools(t)
	made := strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", "userlands")))
	testLiveKernel(r, filepath.Join(made, "bookworm"))
	enginetest.CompileCalls(t, filepath.Join(r.command("fleet", "one").Dir, "calls"))
	old := r.withKernel("acme", &lock.Kernel{Version: "Linux version 3.10.0-1160.el7.x86_64 (builder) #1 SMP",
		SystemCalls: snapshot.CallsOfRelease("3.10.0", "amd64")}, "3.10.0-1160.el7.x86_64")

	const late = "statx %\nopenat2 %\ngetrandom %\n"
	missing, there := strings.ReplaceAll(late, "%", "missing"), strings.ReplaceAll(late, "%", "there")
	for _, test := range []struct{ release, kernel, want string }{
		{old, "target", missing}, {old, "own", there}, {"acme@1", "target", there}, {"acme@1", "own", there},
	} {
		out := r.must(r.command("fleet", "one", "run", "--kernel", test.kernel, test.release, "--", "./calls"))
		if !strings.HasPrefix(out, test.want) {
			t.Errorf("%s with --kernel %s:\n%s", test.release, test.kernel, out)
		}
	}
	out := r.must(r.command("fleet", "one", "run", "--kernel", "target", old, "--", "cat", "/proc/version", "/proc/sys/kernel/osrelease"))
	if out != "Linux version 3.10.0-1160.el7.x86_64 (builder) #1 SMP\n3.10.0-1160.el7.x86_64\n" {
		t.Errorf("an old kernel is shown as %q", out)
	}
	if _, errs, code := result(r.command("fleet", "one", "run", "--kernel", "mine", old, "--", "true")); code != 2 || !strings.Contains(errs, "own or target") {
		t.Errorf("--kernel mine: exit code %d\n%s", code, errs)
	}
	testTrialKernel(r, old, missing)
	changes := r.must(r.command("fleet", "one", "show", old, "--changes"))
	if !strings.Contains(changes, " system calls more, ") || !strings.Contains(changes, "→ 3.10.0-1160.el7.x86_64") {
		t.Errorf("the changes are\n%s", changes)
	}
}

// testTrialKernel builds for a release with an old kernel: that is what the trial finds.
func testTrialKernel(r *real, release, want string) {
	r.t.Helper()
	cmd := r.command("fleet", "one", "build", "--json")
	project := "targets = [\"" + release + "\"]\n[build]\ncommand = [\"true\"]\nartifacts = [\"calls\"]\ntrial = [\"./calls\"]\n"
	if err := os.WriteFile(filepath.Join(cmd.Dir, "stead.toml"), []byte(project), 0o644); err != nil {
		r.t.Fatal(err)
	}
	var built []envs.Built
	r.answer(cmd, &built)
	trial := built[0].Trial
	if trial == nil || trial.Kernel != "3.10.0-1160.el7.x86_64" || !trial.OK() || len(trial.Programs) != 1 || !trial.Programs[0].Started {
		r.t.Fatalf("the trial is %+v", trial)
	}
	if out, err := os.ReadFile(trial.Log); err != nil || !strings.HasPrefix(string(out), want) {
		r.t.Errorf("it found %q, %v", out, err)
	}
	// Where system calls can't be filtered there is a trial all the same.
	built = nil
	r.answer(r.command("fleet", "one", "build", "--json", "--engine", "chroot"), &built)
	if trial := built[0].Trial; trial == nil || trial.Kernel != "" || !trial.OK() || len(trial.Programs) != 1 || !trial.Programs[0].Started {
		r.t.Errorf("in a chroot the trial is %+v", trial)
	}
}

// Userlands run under the kernel that they came with, which other programs are too new
// for; a release that names none says how to go on.
func TestUserlandsUnderTheirKernel(t *testing.T) {
	t.Parallel()
	r := realHost(t)
	made := strings.TrimSpace(r.must(exec.Command("../../testdata/hosts/cached", "userlands")))
	for target, root := range map[string]string{"bullseye": r.host, "bookworm": filepath.Join(made, "bookworm")} {
		r.must(r.command("fleet", "one", "snapshot", root, target, "--yes"))
		_, errs, code := result(r.command("fleet", "one", "run", "--kernel", "target", target, "--", "true"))
		if code != 125 || !strings.Contains(errs, "names no kernel") || !strings.Contains(errs, "hint: take a new snapshot") {
			t.Errorf("%s, of a folder: exit code %d\n%s", target, code, errs)
		}
		release := r.withKernel(target, nil, "5.10.0-28-amd64")
		const script = `uname -s | tr a-z A-Z; ls -l /usr/bin | sort | grep -c ' env$'; perl -e 'print "perl $^O\n"'; (sleep 0.1 & wait); mktemp -u XXX | wc -c
			apt-config dump | grep -c 'APT::Architecture "amd64"'; dpkg-query -W -f '${Package}\n' bash; cat /proc/sys/kernel/osrelease`
		stdout, errs, code := result(r.command("fleet", "one", "run", "--kernel", "target", release, "--", "bash", "-c", script))
		if want := "LINUX\n1\nperl linux\n4\n1\nbash\n5.10.0-28-amd64\n"; code != 0 || stdout != want {
			t.Errorf("%s under Linux 5.10: exit code %d, got %q, want %q\n%s", target, code, stdout, want, errs)
		}
		if !strings.Contains(errs, "doesn't say what system calls its kernel has") {
			t.Errorf("%s: a guess isn't told:\n%s", target, errs)
		}
	}
}

// testLiveKernel takes a snapshot of a root that runs, by the program for hosts that can't
// be reached, and finds this machine's kernel in it.
func testLiveKernel(r *real, root string) {
	r.t.Helper()
	program(r.t, "stead-bundle", r.path("in", "stead-bundle"))
	const live = `mount -t proc proc "$0/proc" && mount --bind "$1" "$0/tmp" && exec chroot "$0" /tmp/stead-bundle /tmp/acme.bundle`
	r.must(exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", live, root, r.path("in")))
	r.must(r.command("fleet", "one", "snapshot", "bundle:"+r.path("in", "acme.bundle"), "acme", "--yes"))
	var shown struct {
		Host   map[string]string
		Kernel lock.Kernel
	}
	r.answer(r.command("fleet", "one", "show", "acme", "--json"), &shown)
	if !strings.HasPrefix(shown.Kernel.Version, "Linux version "+shown.Host["kernel"]) {
		r.t.Errorf("the kernel is %q, %q", shown.Kernel.Version, shown.Host["kernel"])
	}
	if own := ownCalls(r.t); !slices.Equal(shown.Kernel.SystemCalls, own) {
		r.t.Errorf("its calls are %q, want %q", shown.Kernel.SystemCalls, own)
	}
}

// ownCalls are the system calls of this machine's kernel.
func ownCalls(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	own, err := snapshot.ReadKernelSymbols(f)
	if err != nil || len(own) == 0 {
		t.Fatalf("this machine's kernel has the calls %q, %v", own, err)
	}
	return own
}

// The script tells the kernel's symbols in the header of its bundle, by any shell.
func TestScriptTellsKernel(t *testing.T) {
	text, err := theBundleScript()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(text, `	echo "format 1"`)
	header, _, ends := strings.Cut(rest, "\tfi\n")
	if !begins || !ends {
		t.Fatal("the script has no header")
	}
	for _, shell := range [][]string{{"sh"}, {"bash"}, {"busybox", "sh"}} {
		if _, err := exec.LookPath(shell[0]); err != nil {
			t.Errorf("%v: see .ci/setup", err)
			continue
		}
		out, err := exec.Command(shell[0], append(shell[1:], "-euc", "root=/; echo"+header+"fi")...).Output()
		if err != nil {
			t.Fatalf("%s: %v", shell, err)
		}
		var symbols snapshot.KernelSymbols
		for line := range strings.Lines(string(out)) {
			if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "call "); ok {
				symbols.Add(name)
			}
		}
		if got, own := symbols.Calls(), ownCalls(t); !slices.Equal(got, own) {
			t.Errorf("%s: the calls are %q, want %q", shell, got, own)
		}
		if !strings.Contains(string(out), "\nversion Linux version ") {
			t.Errorf("%s: no version is told", shell)
		}
	}
}

// withKernel adds a release to a target that differs in its host's kernel.
func (r *real) withKernel(target string, kernel *lock.Kernel, release string) string {
	r.t.Helper()
	data, err := os.ReadFile(r.path("fleet", target, "1.lock"))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := lock.Read(data)
	if err != nil {
		r.t.Fatal(err)
	}
	l.Release.Number, l.Release.Parent, l.Host.Kernel, l.Kernel = 2, lock.Identity(data), release, kernel
	if err := os.WriteFile(r.path("fleet", target, "2.lock"), l.Write(), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return envs.Ref{Target: target, Number: 2}.String()
}
