package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stead-env/stead/envs/lock"
)

func TestMain(m *testing.M) {
	testscript.Main(tidy{m}, map[string]func(){"stead": main})
}

// The scripts tell what a user sees: no network, no root, nothing of this machine.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("..", "..", "testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("STEAD_STORE", filepath.Join(env.WorkDir, "store"))
			env.Setenv("STEAD_FLEET", filepath.Join(env.WorkDir, "fleet"))
			return os.MkdirAll(filepath.Join(env.WorkDir, "home"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"doctor": doctor,
			"lock":   makeLock,
		},
		RequireUniqueNames: true,
	})
}

// exits CODE COMMAND... runs a command and wants that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		coded, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = coded.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// doctor runs stead doctor, whose exit code is this machine's: 0 or 3.
func doctor(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("stead", append([]string{"doctor"}, args...)...)
	if coded, ok := err.(interface{ ExitCode() int }); err != nil && (!ok || coded.ExitCode() != 3) {
		ts.Fatalf("running stead doctor: %v", err)
	}
}

// lock FILE PACKAGE=VERSION... writes a small lock in its canonical form.
func makeLock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: lock FILE [PACKAGE=VERSION...]")
	}
	file := ts.MkAbs(args[0])
	number, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".lock"))
	ts.Check(err)
	l := &lock.Lock{
		Version: lock.Version,
		Release: lock.Release{Target: filepath.Base(filepath.Dir(file)), Number: number, Origin: lock.Observed,
			Created: time.Date(2026, 11, number, 9, 12, 44, 0, time.UTC)},
		Host: lock.Host{ID: "debian", Version: "11", Codename: "bullseye", Architecture: "amd64", Libc: "glibc 2.31",
			Umask: "0022", Locale: "C.UTF-8", Timezone: "Europe/Berlin", NoFile: 1024},
		Delta:  lock.Delta{SHA256: strings.Repeat("d", 64), Size: 812332, Files: 412},
		Rootfs: lock.Rootfs{Digest: "tree1:sha256:" + strings.Repeat("e", 64)},
	}
	for _, p := range args[1:] {
		name, version, _ := strings.Cut(p, "=")
		l.Packages = append(l.Packages, lock.Package{Name: name, Version: version, Architecture: "amd64", Size: 1566196,
			SHA256: fmt.Sprintf("%064x", len(l.Packages)+1), Proof: lock.Repacked})
	}
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, l.Write(), 0o644))
}
