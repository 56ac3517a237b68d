package hosttest

import (
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
)

// plant puts links into a root that lead out of it on the machine that reads it, to a
// folder that both have under the same path. It returns that path, without the slash.
func plant(t *testing.T, root string) string {
	t.Helper()
	outside := t.TempDir()
	inside := filepath.Join(root, outside)
	climb := strings.Repeat("../", 60) + outside[1:]
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, whose := range map[string]string{outside: "the machine's", inside: "the host's"} {
		must(os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
		must(os.WriteFile(filepath.Join(dir, "file"), []byte(whose), 0o644))
		must(os.WriteFile(filepath.Join(dir, "sub/file"), []byte(whose), 0o644))
	}
	must(os.WriteFile(filepath.Join(outside, "sub/only"), []byte("the machine's"), 0o644))
	links := filepath.Join(root, "links")
	must(os.Mkdir(links, 0o755))
	for name, target := range map[string]string{
		"abs": outside, "climb": climb, "file": outside + "/file", "up": climb + "/file", "twice": "abs/sub",
		"round": "../links/climb/sub", "passwd": "/etc/passwd", "root": "/", "self": ".",
	} {
		must(os.Symlink(target, filepath.Join(links, name)))
	}
	return outside[1:]
}

// machine checks that nothing of the machine is seen through links: not as the last
// element of a path, not among its parents.
func machine(t *testing.T, h snapshot.Host, planted string) {
	for _, p := range []string{"abs/file", "abs/sub", "climb/sub", "climb/sub/only", "twice/only", "twice/file", "root/etc",
		"root/etc/passwd", "self/abs", "self/abs/sub/only", "round/only"} {
		if got := list(t, h, "links/"+p); len(got) != 0 {
			t.Errorf("below links/%s there is %q", p, slices.Sorted(maps.Keys(got)))
		}
	}
	all := list(t, h, ".")
	var paths []string
	targets := map[string]string{}
	for p, f := range all {
		if f.Type == snapshot.Symlink {
			targets[p] = f.Target
		}
		if path.Base(p) == "only" {
			t.Errorf("%s is the machine's", p)
		}
	}
	bad := []string{"links/file", "links/up", "links/passwd", "links/abs/file", "links/abs/sub/only", "links/climb/file",
		"links/twice/only", "links/root/etc/passwd", "links/self/file", "links/round/only", strings.Repeat("../", 60) + planted + "/file",
		"/" + planted + "/file", "links/../" + planted + "/file"}
	// The same names, resolved as a reader of databases and facts does.
	names := []string{"links/file", "links/up", "links/abs/file", "links/climb/sub/file", "links/twice/file", "links/round/file",
		"links/root/links/self/climb/file"}
	want := map[string]string{}
	for _, name := range names {
		real, err := snapshot.NewLinks(targets).Dir(name)
		if err != nil || !strings.HasPrefix(real, planted+"/") {
			t.Errorf("%s leads to %q, %v", name, real, err)
		}
		want[real] = "the host's"
		paths = append(paths, real)
	}
	slices.Sort(paths)
	got := map[string]string{}
	err := h.Read(t.Context(), append(bad, slices.Compact(paths)...), func(p string, r io.Reader, err error) error {
		if err == nil {
			b, err := io.ReadAll(r)
			got[p] = string(b)
			return err
		}
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
