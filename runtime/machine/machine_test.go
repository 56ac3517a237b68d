package machine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime"
)

func TestCgroups(t *testing.T) {
	const v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
	const v1 = "31 24 0:27 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu\n"
	const beside = "32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	for text, want := range map[string]string{
		"": "none are mounted", v2: "version 2", v1: "version 1", v1 + beside: "version 1, and version 2 beside it",
		"30 24 0:26 / /mnt/x rw - cgroup2 cgroup2 rw\n": "none are mounted", "malformed\n - cgroup\n": "none are mounted",
	} {
		if got := cgroups(text).String(); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if l := cgroups(v1 + beside); l.root != "/sys/fs/cgroup/unified" {
		t.Errorf("version 2 is at %q", l.root)
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{
		"runc version 1.1.5+ds1\ncommit: x\n": "1.1.5+ds1", "crun version 1.8.1\n": "1.8.1", "odd\n": "(odd)", "": "()",
	} {
		if got := runtimeVersion(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string][2]int{"5.10.0-28-amd64": {5, 10}, "6.18.44": {6, 18}, "1.8": {1, 8}, "1.14.3+x": {1, 14},
		"2.6.32": {2, 6}, "5.11-rc1": {5, 11}, "x": {0, 0}, "": {0, 0}} {
		if major, minor := numbers(text); major != want[0] || minor != want[1] {
			t.Errorf("%q: %d.%d", text, major, minor)
		}
	}
}

func TestAccountOf(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\ndev:x:1000:1000::/home/dev:/bin/sh\nshort:x:7\n"
	for uid, want := range map[int]string{0: "root", 1000: "dev", 7: "", 100: ""} {
		if got, ok := accountOf(passwd, uid); got != want || ok != (want != "") {
			t.Errorf("%d: %q, %v", uid, got, ok)
		}
	}
}

func TestInitial(t *testing.T) {
	for table, want := range map[string]bool{"         0          0 4294967295\n": true, "1000 1000 1\n": false,
		"0 100000 65536\n": false, "": false} {
		if initial(table) != want {
			t.Errorf("%q: %v", table, !want)
		}
	}
}

// An error's own hint is the remedy.
func TestFromError(t *testing.T) {
	c := FromError("x", "For.", "there", &runtime.Error{Op: "looking", Err: errors.New("not\nthere"), Remedy: "do this"}, Warning)
	if c.State != Warning || c.Found != "looking: not; there" || c.Remedy != "do this" {
		t.Errorf("%+v", c)
	}
	if c := FromError("x", "For.", "there", nil, Warning); c.State != OK || c.Found != "there" || c.Remedy != "" {
		t.Errorf("%+v", c)
	}
}

// What is looked at and tried on this machine leaves nothing.
func TestHere(t *testing.T) {
	dir := t.TempDir()
	checks := append(Store(dir+"/not/yet", func(int64) string { return "much" }), Kernel(), Seccomp(), Cgroups(), Vsyscall(), Processors(), Account())
	checks = append(append(checks, Runtimes()...), Programs()...)
	if os.Geteuid() == 0 {
		tried := Try(t.Context(), notThere{}, dir)
		if tried.Mounts.State != OK || tried.Overlay.State != OK || tried.Session.State != Missing {
			t.Errorf("%+v", tried)
		}
		checks = append(checks, tried.Mounts, tried.Overlay, tried.Upper, tried.Session)
	}
	for _, c := range checks {
		if c.Name == "" || c.State == "" || !strings.HasSuffix(c.For, ".") || c.Found == "" || c.State == OK && c.Remedy != "" && c.Name != "session" {
			t.Errorf("%+v", c)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// notThere is an engine that can't be had.
type notThere struct{ runtime.Engine }

func (notThere) Check(context.Context) error { return errors.New("it isn't there") }
