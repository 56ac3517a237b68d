package toolstest

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
)

// fsck compares the store with the lock and the tools.
func (w *world) fsck(drop bool) (differences []string) {
	w.t.Helper()
	_, err := envs.Fsck(w.t.Context(), w.cfg, w.base.Release, envs.FsckOptions{Drop: drop,
		Folder: func(dir string) (snapshot.Host, error) { return host.Folder(dir) },
		Report: func(d envs.Difference) { differences = append(differences, d.String()) }})
	if err != nil {
		w.t.Fatal(err)
	}
	return differences
}

// checked damages a layer, which fsck finds, and makes it anew.
func (w *world) checked(layer *envs.ToolsLayer, tools *envs.Tools) {
	t := w.t
	t.Helper()
	if got := w.fsck(false); len(got) > 0 {
		t.Fatalf("fsck says %q of what is well", got)
	}
	name := "tools layer " + layer.Name[:12]
	stray := filepath.Join(layer.Path, "usr/share/stray")
	if err := os.WriteFile(stray, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := w.fsck(false); len(got) != 1 || got[0] != name+`: "/usr/share/stray": nothing brings it` {
		t.Errorf("fsck says %q", got)
	}
	release, err := envs.HoldTools(layer)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if got := w.fsck(true); len(got) != 1 {
		t.Errorf("fsck says %q", got)
	}
	if again := w.layer(tools); !again.Made || again.Path != layer.Path {
		t.Errorf("what was damaged is still there: %+v", again)
	}
	if got := w.fsck(false); len(got) > 0 {
		t.Errorf("fsck says %q of what was mended", got)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(layer.Path), "tools.toml"), []byte("release = \"sha256:0\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.fsck(false); len(got) > 0 && !strings.Contains(got[0], name) {
		t.Errorf("fsck says %q", got)
	}
}
