package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programsDir is where what the tests run is built, once for all of them.
var programsDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "stead-programs-") })

// programs are how it is built, by name.
var programs = map[string]func() error{
	"stead":        built("stead", nil, "."),
	"stead-static": built("stead-static", []string{"CGO_ENABLED=0"}, "."),
	"stead-bundle": built("stead-bundle", []string{"CGO_ENABLED=0"}, "../stead-bundle"),
	"exact":        built("exact", nil, "../../testdata/exact"),
}

func built(name string, env []string, from string) func() error {
	return sync.OnceValue(func() error {
		dir, err := programsDir()
		if err != nil {
			return err
		}
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), from)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
}

// program puts a program of ours at a place of the test's own.
func program(t *testing.T, name, to string) {
	t.Helper()
	if err := programs[name](); err != nil {
		t.Fatalf("building %s: %v", name, err)
	}
	dir, err := programsDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", filepath.Join(dir, name), to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// tidy are tests whose programs are removed at the end.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	code := m.M.Run()
	if dir, err := programsDir(); err == nil {
		os.RemoveAll(dir)
	}
	return code
}
