package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// Over ssh a host is the release that it is in a folder, but for what only a running
// system tells, and it isn't written to: neither from near nor from far.
func testSSH(r *real) {
	d := hosttest.StartSSHDAside(r.t, "ChrootDirectory "+r.host)
	command := func(fleet, address string) *exec.Cmd {
		cmd := r.command(fleet, "lead", "snapshot", address, "acme", "--yes", "--json")
		cmd.Env = append(cmd.Env, "PATH="+d.Path())
		return cmd
	}
	before := fingerprint(r.t, r.host)
	type answer struct {
		Identity string
		New      bool
		Packages map[string]int
		Traffic  struct{ Sent, Received int64 }
	}
	var near, far, again answer
	r.answer(command("fleet-ssh", d.Address()), &near)
	want, got := r.settled("fleet"), r.settled("fleet-ssh")
	if got != want {
		r.t.Errorf("over ssh the lock is\n%s\nand from the folder\n%s", got, want)
	}
	if near.Traffic.Sent == 0 || near.Traffic.Received == 0 || !near.New {
		r.t.Errorf("got %+v", near)
	}
	wire := hosttest.StartWire(r.t, d.Port, 50*time.Millisecond)
	d.Through(r.t, wire.Port)
	begun := time.Now()
	r.answer(command("fleet-far", "ssh://prod"), &far)
	first := time.Since(begun)
	bytes := wire.Bytes.Load()
	begun = time.Now()
	r.answer(command("fleet-far", "ssh://prod"), &again)
	r.t.Logf("50 ms away each way, packages in the store: %.1f s and %d bytes over the wire (%+v), again %.1f s and %d bytes",
		first.Seconds(), bytes, far.Traffic, time.Since(begun).Seconds(), wire.Bytes.Load()-bytes)
	if far.Identity != near.Identity || again.Identity != near.Identity || again.New {
		r.t.Errorf("near %+v, far %+v, again %+v", near, far, again)
	}
	r.indexOverSSH(d.Path(), wire)
	if fingerprint(r.t, r.host) != before {
		r.t.Error("the host was written to")
	}
	if left, _ := filepath.Glob(r.path("lead", "cache", "received-*")); len(left) > 0 {
		r.t.Errorf("what was received is still there: %v", left)
	}
}

// indexOverSSH takes an index alone over the wire, where the store has the packages: hardly
// a program crosses it. Its verdicts are those of the release, and of the host as it is.
func (r *real) indexOverSSH(path string, wire *hosttest.Wire) {
	r.t.Helper()
	command := func(args ...string) *exec.Cmd {
		cmd := r.command("fleet-far", "lead", args...)
		cmd.Env = append(cmd.Env, "PATH="+path)
		return cmd
	}
	before, begun := wire.Bytes.Load(), time.Now()
	r.must(command("snapshot", "ssh://prod", "alone", "--take", "index", "--yes"))
	r.t.Logf("an index alone: %.1f s and %d bytes over the wire", time.Since(begun).Seconds(), wire.Bytes.Load()-before)
	program := filepath.Join(r.host, "usr/bin/dpkg")
	fi, err := os.Stat(program)
	if err != nil {
		r.t.Fatal(err)
	}
	before, begun = wire.Bytes.Load(), time.Now()
	var got struct {
		Answers []struct{ Target, Verdict string }
	}
	r.answer(command("check", program, "--for", "acme", "--for", "alone", "--for", "ssh://prod", "--json"), &got)
	r.t.Logf("a check for the host as it is: %.1f s and %d bytes over the wire (a program has %d)", time.Since(begun).Seconds(),
		wire.Bytes.Load()-before, fi.Size())
	if len(got.Answers) != 3 {
		r.t.Errorf("got %+v", got)
	}
	for _, a := range got.Answers {
		if a.Verdict != "starts" {
			r.t.Errorf("%s: %s", a.Target, a.Verdict)
		}
	}
}

// settled is a target's first lock without its release and what only a running system tells.
func (r *real) settled(fleet string) string {
	r.t.Helper()
	text, err := os.ReadFile(r.path(fleet, "acme", "1.lock"))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		r.t.Fatal(err)
	}
	l.Release, l.Host.Kernel, l.Host.CPU = lock.Release{}, "", ""
	return string(l.Write())
}

// Where ssh can't get in, its own words are the error, and there is a hint.
func TestSSHRefused(t *testing.T) {
	d := hosttest.StartSSHD(t, "AuthorizedKeysFile none")
	t.Setenv("STEAD_STORE", filepath.Join(t.TempDir(), "store"))
	t.Setenv("STEAD_FLEET", t.TempDir())
	t.Chdir(t.TempDir())
	var out, errs strings.Builder
	code := run(t.Context(), []string{"snapshot", d.Address(), "acme", "--yes"}, &out, &errs)
	if code != exitError || !strings.Contains(errs.String(), "error: connecting to "+d.Address()+": ") ||
		!strings.Contains(errs.String(), "Permission denied (publickey)") || !strings.Contains(errs.String(), "hint: does ssh itself get in?") {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}
