package session

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/runtime"
)

// bundle makes a bundle for a root, and the state that a hook is told of it.
func bundle(t testing.TB, root string) string {
	t.Helper()
	dir := t.TempDir()
	config, err := json.Marshal(map[string]any{"root": map[string]string{"path": root}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return `{"ociVersion":"1.0.2","id":"x","status":"creating","pid":1,"bundle":"` + dir + `"}`
}

// A root decides nothing about what is mounted where.
func TestHookRefuses(t *testing.T) {
	files := t.TempDir()
	for _, f := range runtime.KernelFiles {
		if err := os.WriteFile(filepath.Join(files, f.Name), []byte("x\n"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	for name, plant := range map[string]func(root string) error{
		"no proc": func(string) error { return nil },
		"a link":  func(root string) error { return os.Symlink("/proc", filepath.Join(root, "proc")) },
		"a file":  func(root string) error { return os.WriteFile(filepath.Join(root, "proc"), nil, 0o600) },
		"no procfs": func(root string) error {
			if err := os.Mkdir(filepath.Join(root, "proc"), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(root, "proc/version"), []byte("mine\n"), 0o644)
		},
	} {
		root := t.TempDir()
		if err := plant(root); err != nil {
			t.Fatal(err)
		}
		if err := showKernel(files, strings.NewReader(bundle(t, root))); err == nil {
			t.Errorf("%s: mounted", name)
		}
	}
	for _, state := range []string{"", "{}", `{"bundle":"/nosuch"}`, `{"bundle":7}`, bundle(t, "")} {
		if err := showKernel(files, strings.NewReader(state)); err == nil {
			t.Errorf("the state %q is taken", state)
		}
	}
}

// A bundle may name its root from where it is, as containerd's do.
func TestHookRoot(t *testing.T) {
	state := bundle(t, "rootfs")
	root, err := containerRoot(strings.NewReader(state))
	if err != nil || filepath.Base(root) != "rootfs" || !strings.Contains(state, filepath.Dir(root)) {
		t.Errorf("the root is %s, %v", root, err)
	}
	for _, args := range [][]string{{"stead"}, {"stead", "run"}, {runtime.KernelHook}, {"stead", runtime.KernelHook}} {
		if _, ok := Hook(args); ok {
			t.Errorf("%q is taken for a hook", args)
		}
	}
}

func FuzzHookState(f *testing.F) {
	f.Add(`{"ociVersion":"1.0.2","id":"x","bundle":"/nosuch"}`)
	f.Fuzz(func(t *testing.T, state string) {
		if root, err := containerRoot(strings.NewReader(state)); err == nil && root == "" {
			t.Error("there is no root, and no error")
		}
	})
}
