package oci

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stead-env/stead/runtime"
)

// A filter that is made beside the mounts is the one of the whole specification.
func TestFilterAlone(t *testing.T) {
	spec := runtime.Spec{Name: "acme@1", Command: []string{"true"}, UID: 1000, Devices: []string{"/dev/null"}}
	for _, at := range []runtime.Placement{{}, {Cgroup: "/x"}, {UserNamespace: true}, {UserNamespace: true, Become: []string{"a", "b"}}} {
		whole, err := runtime.OCI(spec, at)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := runtime.Filter(spec, at)
		if err != nil {
			t.Fatal(err)
		}
		// In the order of their numbers: the rules are in none.
		want, err := encode(whole.Linux.Seccomp)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := encode(alone); err != nil || got != want {
			t.Errorf("%+v: another filter, %v", at, err)
		}
	}
}

// Only a crun that takes the annotation is given a filter that nothing could live with.
func TestFilterForCrun(t *testing.T) {
	dir := t.TempDir()
	kill := &specs.LinuxSeccomp{DefaultAction: specs.ActKillProcess}
	for name, test := range map[string]struct {
		text string
		raw  bool
		kill bool
	}{
		"crun":     {strings.Repeat("x", 64<<10-9) + rawFilter, true, true},
		"crun-old": {strings.Repeat("x", 200<<10), true, false},
		"runc":     {rawFilter, false, false},
	} {
		binary := filepath.Join(dir, name)
		if err := os.WriteFile(binary, []byte(test.text), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := makeFilter(binary, runtime.Spec{Name: "acme@1", Command: []string{"true"}}, runtime.Placement{})()
		if err != nil {
			t.Fatal(err)
		}
		if got := f.annotations[rawFilter] != ""; got != test.raw {
			t.Errorf("%s: annotated: %v", name, got)
		}
		if got := reflect.DeepEqual(f.seccomp, kill); got != test.kill {
			t.Errorf("%s: %d rules", name, len(f.seccomp.Syscalls))
		}
	}
	if contains(filepath.Join(dir, "none"), "x") {
		t.Error("found in a file that isn't there")
	}
}
