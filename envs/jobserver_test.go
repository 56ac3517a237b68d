package envs

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime"
)

func TestCapacity(t *testing.T) {
	for _, test := range []struct{ targets, jobs, builds, wantJobs, wantBuilds int }{
		{1, 8, 0, 8, 1}, {9, 4, 0, 4, 4}, {9, 4, 2, 4, 2}, {3, 1, 0, 1, 1}, {2, 8, 5, 8, 2},
	} {
		c := capacity(test.targets, test.jobs, test.builds)
		if c.Jobs != test.wantJobs || c.Builds > test.wantBuilds || c.Builds < 1 { // fewer where memory is short
			t.Errorf("%+v: got %+v", test, c)
		}
	}
	if c := capacity(3, 0, 0); c.Jobs < 1 || c.Builds < 1 || c.Builds > 3 {
		t.Errorf("got %+v", c)
	}
}

func TestCgroupMemory(t *testing.T) {
	top := t.TempDir()
	const none = int64(math.MaxInt64)
	tree(t, top, map[string]string{
		"memory.stat": "inactive_file 0\n", "a/memory.max": "1000\n", "a/memory.current": "600\n", "a/memory.stat": "anon 5\ninactive_file 100\n",
		"a/b/memory.max": "max\n", "a/b/memory.current": "300\n", "full/memory.max": "10", "full/memory.current": "20",
	})
	for at, want := range map[string]int64{"/": none, "/a": 500, "/a/b": 500, "/a/b/../../..": none, "/elsewhere": none, "/full": 0} {
		if got := cgroupMemory(top, at, "memory.max", "memory.current", "inactive_file"); got != want {
			t.Errorf("%s: got %d, want %d", at, got, want)
		}
	}
	if freeMemory() <= 0 {
		t.Error("this machine has no memory")
	}
}

// What a session is told depends on its make, on its command and on the engine.
func TestJobsTell(t *testing.T) {
	root, tools := t.TempDir(), t.TempDir()
	old, named := filepath.Join(root, "usr/bin/make"), filepath.Join(tools, "usr/lib/make")
	tree(t, root, map[string]string{"bin@": "usr/bin", "usr/bin/sh*": "sh", "usr/bin/make*": strings.Repeat("x", 100_000) + "invalid --jobserver-auth"})
	tree(t, tools, map[string]string{"usr/bin/make@": "../lib/make", "usr/lib/make*": strings.Repeat("y", 65536-3) + "fifo:%s"})
	if holds(old, "fifo:") || !holds(named, "fifo:") {
		t.Error("a make is taken for another")
	}
	shared, err := newJobs(testStore(t), Capacity{Jobs: 6, Builds: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer shared.close()
	many, err := newJobs(testStore(t), Capacity{Jobs: 1_000_000, Builds: 2}) // it doesn't wait for a reader
	if err != nil || many.total != maxTokens {
		t.Errorf("got %+v, %v", many, err)
	}
	defer many.close()
	alone, err := newJobs(testStore(t), Capacity{Jobs: 6, Builds: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		jobs    *jobs
		engine  string
		lower   []string
		command string
		env     string
		flags   string // MAKEFLAGS
		share   string
		wrapped bool
	}{
		{"old make", shared, "embedded", nil, "make", "", " -j6 --jobserver-fds=8,9 --jobserver-auth=8,9", "3", true},
		{"make of the tools", shared, "embedded", []string{tools}, "make", "", " -j6 --jobserver-auth=fifo:/run/stead/jobs", "3", false},
		{"a program that closes files", shared, "embedded", nil, "python3 build.py", "", "-j3", "3", false},
		{"its own number", shared, "embedded", nil, "make -j2", "", "", "3", false},
		{"the project's flags", shared, "embedded", []string{tools}, "make", "MAKEFLAGS=-k", "-k", "3", false},
		{"copies", shared, "chroot", []string{tools}, "make", "", "-j3", "3", false},
		{"one build", alone, "embedded", nil, "make", "", "-j6", "6", false},
	} {
		spec := runtime.Spec{Root: root, Lower: test.lower, Command: strings.Fields(test.command), Env: []string{"PATH=/usr/bin:/bin"}}
		if test.env != "" {
			spec.Env = append(spec.Env, test.env)
		}
		before := slices.Clone(spec.Env)
		got := test.jobs.tell(spec, test.engine)
		if variable(got, "MAKEFLAGS") != test.flags || variable(got, "STEAD_JOBS") != test.share {
			t.Errorf("%s: got %q", test.name, got.Env)
		}
		if wrapped := got.Command[0] == "/bin/sh"; wrapped != test.wrapped || !slices.Equal(got.Command[len(got.Command)-len(spec.Command):], spec.Command) {
			t.Errorf("%s: got %q", test.name, got.Command)
		}
		if shares := strings.Contains(test.flags, "jobserver"); shares != (len(got.Mounts) == 1) {
			t.Errorf("%s: got %v", test.name, got.Mounts)
		}
		if !slices.Equal(before, spec.Env) {
			t.Errorf("%s: the given specification changed", test.name)
		}
	}
	// Two builds run, so four more jobs may; one that ends gives its own.
	if err := shared.give(1); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := shared.fifo.Read(buf); n != 5 || err != nil {
		t.Errorf("got %d tokens, %v", n, err)
	}
	name := shared.fifo.Name()
	shared.close()
	if _, err := os.Lstat(name); err == nil {
		t.Error("the fifo stays")
	}
}
